package openai

import (
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
)

// AzureProvider is the gen_ai.provider.name of the calls to Azure OpenAI.
const AzureProvider = "azure.ai.openai"

// apiVersion is the parameter by which every request to Azure OpenAI says which version of the API it was written for; on the paths of OpenAI's
// own API it may be absent.
const apiVersion = "api-version"

// AzureRows are the surfaces of Azure OpenAI: those that name a deployment in the path, the others below "/openai", and OpenAI's own
// API below "/openai/v1". They have the names of OpenAI's surfaces, for their shape is the same; the provider tells them apart.
//
// The model of a call is the deployment, where the path names one.
var AzureRows = azureRows()

// AzureDialect answers where no row matches.
var AzureDialect = llm.Row{Watch: Watch, Refuse: Refuse}

// deployments is where the surfaces begin that name the deployment in the path.
const deployments = "/openai/deployments/{deployment}"

func azureRows() []llm.Row {
	var rows []llm.Row
	for _, e := range slices.Concat(asked, drops) {
		if e.deployed {
			rows = append(rows, e.row(AzureProvider, deployments, apiVersion))
		} else {
			rows = append(rows, e.row(AzureProvider, "/openai", apiVersion))
		}
		rows = append(rows, e.row(AzureProvider, "/openai/v1", apiVersion))
	}
	return rows
}
