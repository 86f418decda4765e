package anthropic

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
)

// The surfaces.
const (
	Messages    llm.Surface = "anthropic.messages"
	CountTokens llm.Surface = "anthropic.count_tokens"
	Batches     llm.Surface = "anthropic.batches"
	Files       llm.Surface = "anthropic.files"
	Skills      llm.Surface = "anthropic.skills"
	Models      llm.Surface = "anthropic.models"
)

// The paths.
const (
	batchesPath  = "/v1/messages/batches"
	batchPath    = batchesPath + "/{id}"
	filesPath    = "/v1/files"
	filePath     = filesPath + "/{id}"
	skillsPath   = "/v1/skills"
	skillPath    = skillsPath + "/{id}"
	versionsPath = skillPath + "/versions"
	versionPath  = versionsPath + "/{version}"
)

var (
	// betaQuery is the query of every surface: the SDKs' beta APIs say so in it.
	betaQuery = []string{"beta"}
	pageQuery = []string{"after_id", "before_id", "beta", "limit"}
	fileQuery = []string{"after_id", "before_id", "beta", "ids", "ids[]", "lifecycle", "limit", "page", "scope_id", "source"}
	sseOnly   = []llm.Framing{llm.FramingSSE}
	results   = []llm.Framing{llm.FramingNDJSON}
)

// Rows are the surfaces of Anthropic's API.
var Rows = []llm.Row{
	post(Messages, llm.ClassModel, llm.OperationChat, "/v1/messages", Decode, sseOnly),
	post(CountTokens, llm.ClassAuxiliary, llm.OperationCountTokens, "/v1/messages/count_tokens", DecodeCountTokens, nil),
	post(Batches, llm.ClassDeadDrop, llm.OperationStore, batchesPath, DecodeBatch, nil),
	post(Files, llm.ClassDeadDrop, llm.OperationStore, filesPath, DecodeFile, nil),
	post(Skills, llm.ClassDeadDrop, llm.OperationStore, skillsPath, DecodeSkill, nil),
	post(Skills, llm.ClassDeadDrop, llm.OperationStore, versionsPath, DecodeSkill, nil),

	bare(Batches, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, batchesPath, pageQuery, nil),
	bare(Batches, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, batchPath, betaQuery, nil),
	bare(Batches, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, batchPath+"/results", betaQuery, results),
	bare(Batches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodPost, batchPath+"/cancel", betaQuery, nil),
	bare(Batches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, batchPath, betaQuery, nil),
	bare(Files, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, filesPath, fileQuery, nil),
	bare(Files, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, filePath, betaQuery, nil),
	bare(Files, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, filePath+"/content", betaQuery, nil),
	bare(Files, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, filePath, betaQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, skillsPath, fileQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, skillPath, betaQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, skillPath, betaQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, versionsPath, fileQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, versionPath, betaQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, versionPath+"/content", betaQuery, nil),
	bare(Skills, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, versionPath, betaQuery, nil),
	bare(Models, llm.ClassAuxiliary, llm.OperationList, http.MethodGet, "/v1/models", pageQuery, nil),
	bare(Models, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodGet, "/v1/models/{model}", betaQuery, nil),
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}

// post is the row of a surface whose requests have a body.
func post(s llm.Surface, c llm.Class, op llm.Operation, path string, decode func(*llm.Request, llm.Limits) *llm.Call, streams []llm.Framing) llm.Row {
	return llm.Row{Surface: s, Class: c, Operation: op, Method: http.MethodPost, Path: path, Query: betaQuery, Streams: streams, Decode: decode, Watch: Watch, Refuse: Refuse}
}
