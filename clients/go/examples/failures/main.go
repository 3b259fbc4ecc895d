// What can go wrong, and what to do about it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	parley "github.com/parley-gateway/parley/clients/go"
)

func main() {
	client, err := parley.NewClient("")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	_, err = client.Chat(ctx, "mock/no-such-model", parley.Prompt("hello"))
	var unknown *parley.ModelNotFound
	if errors.As(err, &unknown) {
		fmt.Println(err) // reason, message, and the request ID that the gateway's operator can look up
		for model, err := range client.Models(ctx, nil) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("there is", model.GetId())
		}
	}

	_, err = client.Chat(ctx, "mock/echo", parley.Prompt("hello"), parley.Temperature(9))
	var invalid *parley.InvalidRequest
	if errors.As(err, &invalid) {
		for _, violation := range invalid.Violations {
			fmt.Println(violation.Field, "→", violation.Description)
		}
	}

	// The gateway has tried again already, and fallen back where it may. What is left is yours to decide:
	stream := client.Stream(ctx, "mock/echo", parley.Prompt("hello"), parley.Fallbacks("mock/other"))
	defer stream.Close()
	reply, err := stream.Reply()
	var failed *parley.GatewayError
	switch {
	case err == nil:
		fmt.Println(reply.Text())
	case errors.As(err, &failed) && failed.Retryable:
		fmt.Println("so far:", stream.Partial().Text(), "; worth another try in", failed.RetryAfter)
	default:
		log.Fatal(err)
	}
}
