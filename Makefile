# Sallyport. `make help` says what there is.
#
# Needed: Linux as root, Go (the version in go.mod), make, a C compiler (for the race detector). Everything else is installed
# by the targets themselves: Debian packages, Go modules.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO          ?= go
# opa_no_oci and grpcnotrace leave out what the sidecar does not use; without them it is a few MB larger.
BUILD_TAGS  := netgo,osusergo,opa_no_oci,grpcnotrace
CLUSTER     := $(GO) run -C e2e/cluster .
CONTROLLER_GEN := $(GO) run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0
GOLANGCI    := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## Say what the targets do
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: preflight
preflight:
	@[ "$$(uname -s)" = Linux ] || { echo "error: Sallyport's tests need Linux (network namespaces, nftables)" >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "error: run as root: the tests make network namespaces and a cluster" >&2; exit 1; }
	@command -v $(GO) >/dev/null || { echo "error: no Go toolchain on the PATH; go.mod says which version is needed" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "error: no C compiler on the PATH (Debian: apt-get install gcc libc6-dev); the race detector needs one" >&2; exit 1; }

.PHONY: deps
deps: preflight ## Install the Debian packages that the tests and the cluster need
	@$(CLUSTER) deps

.PHONY: build
build: ## Build the three binaries into bin/
	@mkdir -p bin
	@for b in sallyport sallyport-proxy sallyport-controller; do \
	  CGO_ENABLED=0 $(GO) build -trimpath -tags $(BUILD_TAGS) -ldflags "-s -w" -o bin/$$b ./cmd/$$b; done
	@ls -l bin/sallyport bin/sallyport-proxy bin/sallyport-controller

.PHONY: demo
demo: preflight ## Bring up a real cluster and show a call's whole way
	@$(GO) run ./e2e/demo

.PHONY: demo-down
demo-down: preflight ## Remove everything that make demo made
	@$(GO) run ./e2e/demo -down

.PHONY: test
test: deps unit e2e ## Run every test: unit, network namespaces, the real cluster

# The runtimes of the unmodified clients: Debian's Python packages and curl, and npm with whatever Node.js it comes with; the Node.js that runs the
# clients is of a set version and comes from npm itself.
CLIENT_PACKAGES := curl zstd python3-minimal python3-requests python3-httpx python3-h2 python3-aiohttp

.PHONY: clients
clients: preflight ## Install the unmodified model clients that the tests run through the gate
	@missing=; for p in $(CLIENT_PACKAGES); do \
	  [ "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing="$$missing $$p"; done; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	[ -z "$$missing" ] || { echo "== installing$$missing"; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; }
	@cd e2e/clients/node && if ! cmp -s package-lock.json node_modules/installed-lock.json; then \
	  echo "== installing the clients from npm"; \
	  timeout 600 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/installed-lock.json; fi
	@cd e2e/clients/go && $(GO) vet ./...

# What trains many models for their statistics is left out of the run with the race detector, which makes arithmetic twenty times as slow, and has a run of its own.
STATISTICS := ./pkg/detector ./pkg/evaluation ./pkg/iforest

.PHONY: unit
unit: deps clients ## Run the tests that need no cluster, with the race detector; those of the detector's quality again without
	@$(CLUSTER) build
	@echo "== unit, property, golden, fuzz-seed and network-namespace tests"
	@$(GO) vet ./...
	@$(GO) test -race -short -timeout 25m $$($(GO) list ./... | grep -v '/e2e$$')
	@echo "== statistics of models, of recorded agents too where ../shared/data has them"
	@$(GO) test -timeout 25m $(STATISTICS)
	@cd e2e/cluster && $(GO) vet ./... && $(GO) test ./...

.PHONY: e2e
e2e: deps ## Run the end-to-end tests in the real cluster; KEEP=1 leaves the cluster up
	@echo "== end-to-end tests"
	@status=0; $(GO) test -count=1 -timeout 40m -v ./e2e || status=$$?; \
	if [ -z "$${KEEP:-}" ]; then $(GO) run ./e2e/demo -down || true; fi; exit $$status

.PHONY: bench
bench: preflight ## Measure the proxy against a bare TLS-terminating reverse proxy
	@$(GO) run ./e2e/bench

.PHONY: fuzz
fuzz: ## Fuzz each parser for FUZZTIME (default 30s)
	@for p in $$($(GO) list ./... ); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-30s} $$p; done; done

.PHONY: lint
lint: ## Run golangci-lint
	@$(GOLANGCI) run ./...

.PHONY: generate
generate: ## Regenerate deepcopy code, CRDs and protobuf code (needs protoc, Debian: protobuf-compiler)
	@$(CONTROLLER_GEN) object crd:headerFile=/dev/null paths=./pkg/api/... output:crd:dir=deploy/crds
	@bin=$$(mktemp -d); trap "rm -rf $$bin" EXIT; \
	GOBIN=$$bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12; \
	GOBIN=$$bin $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2; \
	cd pkg/xds/sallyportv1 && PATH=$$bin:$$PATH protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative sallyport.proto

.PHONY: cluster-up cluster-down cluster-env
cluster-up: preflight ## Bring up the real cluster
	@$(CLUSTER) deps && $(CLUSTER) up
cluster-down: preflight ## Take the cluster down
	@$(CLUSTER) down
cluster-env: ## Print what to eval in a shell to use the cluster with kubectl
	@$(CLUSTER) env
