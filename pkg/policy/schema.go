package policy

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// InputSchema returns the JSON schema of the input, made from Input. It closes every object, so that a compiler that has
// it refuses input.anomly and input.anomaly.scroe.
func InputSchema() map[string]any { return inputSchema() }

var inputSchema = sync.OnceValue(func() map[string]any {
	s := schemaOf(reflect.TypeFor[Input]())
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Sallyport policy input, version 1"
	return s
})

func schemaOf(t reflect.Type) map[string]any {
	if t == reflect.TypeFor[json.RawMessage]() {
		return map[string]any{} // any value
	}
	switch t.Kind() {
	case reflect.Struct:
		properties, required := map[string]any{}, []any{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			properties[name] = schemaOf(t.Field(i).Type)
			required = append(required, name)
		}
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	default:
		return map[string]any{"type": "integer"}
	}
}
