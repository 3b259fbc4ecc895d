// An answer as a Go value.
package main

import (
	"context"
	"fmt"
	"log"

	parley "github.com/parley-gateway/parley/clients/go"
)

const schema = `{
	"type": "object",
	"properties": {
		"summary": {"type": "string", "description": "One sentence."},
		"urgency": {"enum": ["low", "high"]}
	},
	"required": ["summary", "urgency"],
	"additionalProperties": false
}`

type ticket struct {
	Summary string `json:"summary"`
	Urgency string `json:"urgency"`
}

func main() {
	client, err := parley.NewClient("")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	prompt := parley.Prompt("My invoice is wrong and I leave in an hour!")
	reply, err := client.Chat(context.Background(), "mock/echo", prompt, parley.JSONSchema("ticket", schema))
	if err != nil {
		log.Fatal(err)
	}
	var sorted ticket
	if err := reply.JSON(&sorted); err != nil { // says what does not fit
		log.Fatal(err)
	}
	fmt.Println(sorted.Urgency, "-", sorted.Summary)
}
