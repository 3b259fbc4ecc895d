// Text as it comes, and a stream that goes on by itself when its connection breaks.
package main

import (
	"context"
	"fmt"
	"log"

	parley "github.com/parley-gateway/parley/clients/go"
)

func main() {
	client, err := parley.NewClient("")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	stream := client.Stream(context.Background(), "mock/echo", parley.Prompt("one two three"), parley.ResumeByItself())
	defer stream.Close() // leaving early would end the call, at the provider too
	for text, err := range stream.Text() {
		if err != nil {
			log.Fatal(err, "; so far: ", stream.Partial().Text())
		}
		fmt.Print(text)
	}
	reply, err := stream.Reply() // the whole, as Chat would have given it
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("\n%s, %d tokens\n", reply.FinishReason(), reply.Usage().GetOutputTokens())
}
