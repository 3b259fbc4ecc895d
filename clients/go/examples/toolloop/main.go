// A model that calls Go functions.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	parley "github.com/parley-gateway/parley/clients/go"
)

const turns = 10

type where struct {
	City string `json:"city"`
}

func weather(call parley.ToolCall) (string, error) {
	var asked where
	if err := call.Arguments(&asked); err != nil {
		return "", err
	}
	return fmt.Sprintf("21 °C in %s", asked.City), nil
}

func main() {
	model := "mock/echo" // a model that uses tools makes it more interesting
	if len(os.Args) > 1 {
		model = os.Args[1]
	}
	client, err := parley.NewClient("")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	tool := parley.Function("weather", "The weather now.", map[string]any{
		"type":       "object",
		"properties": map[string]any{"city": map[string]any{"type": "string"}},
		"required":   []string{"city"},
	})
	conversation := parley.Prompt("What is the weather in Oslo?")
	for range turns {
		reply, err := client.Chat(context.Background(), model, conversation, parley.Tools(tool))
		if err != nil {
			log.Fatal(err)
		}
		calls := reply.ToolCalls()
		if len(calls) == 0 {
			fmt.Println(reply.Text())
			return
		}
		conversation = append(conversation, reply.Message())
		for _, call := range calls {
			fmt.Printf("→ %s(%s)\n", call.Name, call.ArgumentsJSON)
			said, err := weather(call)
			if err != nil { // the model is told, and may do better
				conversation = append(conversation, parley.ToolFailure(call, parley.Text(err.Error())))
				continue
			}
			conversation = append(conversation, parley.ToolResult(call, parley.Text(said)))
		}
	}
	log.Fatal("the model still calls tools")
}
