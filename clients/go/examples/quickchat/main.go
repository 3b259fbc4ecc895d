// The shortest conversation. Start a gateway first: `make run`.
package main

import (
	"context"
	"fmt"
	"log"

	parley "github.com/parley-gateway/parley/clients/go"
)

func main() {
	client, err := parley.NewClient("") // at PARLEY_ADDRESS, else at 127.0.0.1:50051
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	reply, err := client.Chat(ctx, "mock/echo", parley.Prompt("hello"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Text())

	// To go on, send the reply back in its place. What the provider needs to recognise it travels along.
	conversation := parley.Messages(
		parley.System(parley.Text("Be brief.")),
		parley.User(parley.Text("hello")),
		reply.Message(),
		parley.User(parley.Text("and goodbye")),
	)
	reply, err = client.Chat(ctx, "mock/echo", conversation, parley.Temperature(0.2))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Text(), reply.FinishReason(), reply.Usage().GetOutputTokens(), reply.Cost())
}
