package parley

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

// Prompt is a conversation of one message: what the user says.
func Prompt(text string) []*parleyv1.Message { return Messages(User(Text(text))) }

// Messages is a conversation. To put an answer back where it was said, add its Message.
func Messages(messages ...*parleyv1.Message) []*parleyv1.Message { return messages }

// System says what whoever operates the application instructs.
func System(parts ...*parleyv1.Part) *parleyv1.Message {
	return message(parleyv1.Role_ROLE_SYSTEM, parts)
}

// Developer says what the developer instructs; system instructions where the provider has no such role.
func Developer(parts ...*parleyv1.Part) *parleyv1.Message {
	return message(parleyv1.Role_ROLE_DEVELOPER, parts)
}

// User says what the end user says.
func User(parts ...*parleyv1.Part) *parleyv1.Message { return message(parleyv1.Role_ROLE_USER, parts) }

// Assistant says what the model said. For a turn that a model really gave use Reply.Message: it keeps what replay needs.
func Assistant(parts ...*parleyv1.Part) *parleyv1.Message {
	return message(parleyv1.Role_ROLE_ASSISTANT, parts)
}

// ToolResult answers a call that the model made.
func ToolResult(call ToolCall, parts ...*parleyv1.Part) *parleyv1.Message {
	return toolMessage(call, parts, false)
}

// ToolFailure answers a call that failed, and says how.
func ToolFailure(call ToolCall, parts ...*parleyv1.Part) *parleyv1.Message {
	return toolMessage(call, parts, true)
}

func message(role parleyv1.Role, parts []*parleyv1.Part) *parleyv1.Message {
	return &parleyv1.Message{Role: role, Parts: parts}
}

func toolMessage(call ToolCall, parts []*parleyv1.Part, failed bool) *parleyv1.Message {
	result := &parleyv1.ToolResult{ToolCallId: call.ID, Name: call.Name, Parts: parts, IsError: failed}
	part := &parleyv1.Part{Kind: &parleyv1.Part_ToolResult{ToolResult: result}}
	return message(parleyv1.Role_ROLE_TOOL, []*parleyv1.Part{part})
}

// Text is plain text.
func Text(text string) *parleyv1.Part { return &parleyv1.Part{Kind: &parleyv1.Part_Text{Text: text}} }

// Image is a picture; see File, Bytes and URL.
func Image(source *parleyv1.MediaSource) *parleyv1.Part {
	return &parleyv1.Part{Kind: &parleyv1.Part_Image{Image: &parleyv1.ImagePart{Source: source}}}
}

// Audio is a recording.
func Audio(source *parleyv1.MediaSource) *parleyv1.Part {
	return &parleyv1.Part{Kind: &parleyv1.Part_Audio{Audio: &parleyv1.AudioPart{Source: source}}}
}

// Document is a PDF, a text, or the like.
func Document(source *parleyv1.MediaSource, title string) *parleyv1.Part {
	document := &parleyv1.DocumentPart{Source: source, Title: title}
	return &parleyv1.Part{Kind: &parleyv1.Part_Document{Document: document}}
}

// Cached marks a part as the end of a prompt prefix that the provider may keep for ttl; 0: as long as it usually does.
func Cached(part *parleyv1.Part, ttl time.Duration) *parleyv1.Part {
	marked := proto.Clone(part).(*parleyv1.Part)
	marked.CacheBreakpoint = &parleyv1.CacheBreakpoint{}
	if ttl > 0 {
		marked.CacheBreakpoint.Ttl = durationpb.New(ttl)
	}
	return marked
}

// File is what a file holds.
func File(path string) (*parleyv1.MediaSource, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	kind := mime.TypeByExtension(filepath.Ext(path))
	if sniffed := http.DetectContentType(data); !strings.HasPrefix(sniffed, "text/plain") || kind == "" {
		kind = sniffed
	}
	if kind == "application/octet-stream" {
		return nil, fmt.Errorf("parley: what kind of media is %s? Use Bytes, and say", path)
	}
	kind, _, _ = strings.Cut(kind, ";")
	return Bytes(data, kind), nil
}

// Bytes are media as they are, of a media type such as "image/png".
func Bytes(data []byte, mimeType string) *parleyv1.MediaSource {
	return &parleyv1.MediaSource{Source: &parleyv1.MediaSource_Data{Data: data}, MimeType: mimeType}
}

// URL is where the provider finds media.
func URL(uri string) *parleyv1.MediaSource {
	return &parleyv1.MediaSource{Source: &parleyv1.MediaSource_Uri{Uri: uri}}
}

// Function is a tool: a function that the model may call with arguments of a JSON Schema, which is text or what
// encoding/json makes a schema of. It panics if that makes none.
func Function(name, description string, parameters any) *parleyv1.Tool {
	schema, ok := parameters.(string)
	if !ok {
		data, err := json.Marshal(parameters)
		if err != nil {
			panic(fmt.Sprintf("parley: the parameters of %s: %v", name, err))
		}
		schema = string(data)
	}
	function := &parleyv1.FunctionTool{Name: name, Description: description, ParametersJsonSchema: schema}
	return &parleyv1.Tool{Kind: &parleyv1.Tool_Function{Function: function}}
}
