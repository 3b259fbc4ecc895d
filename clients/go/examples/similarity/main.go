// Which of these texts is closest to the question?
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"sort"

	parley "github.com/parley-gateway/parley/clients/go"
)

// similarity is the cosine of the angle between two vectors: 1 is the same direction.
func similarity(a, b []float32) float64 {
	var product, lengthA, lengthB float64
	for i := range a {
		product += float64(a[i]) * float64(b[i])
		lengthA += float64(a[i]) * float64(a[i])
		lengthB += float64(b[i]) * float64(b[i])
	}
	return product / math.Sqrt(lengthA*lengthB)
}

func main() {
	client, err := parley.NewClient("")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	texts := []string{"Oslo is the capital of Norway.", "Bread needs flour, water and salt.", "Fjords are deep."}
	inputs := append([]string{"What is the capital of Norway?"}, texts...)
	embeddings, err := client.Embed(context.Background(), "mock/embed", inputs)
	if err != nil {
		log.Fatal(err)
	}
	question, vectors := embeddings.Vectors[0], embeddings.Vectors[1:]
	order := []int{0, 1, 2}
	sort.Slice(order, func(i, j int) bool {
		return similarity(question, vectors[order[i]]) > similarity(question, vectors[order[j]])
	})
	for _, i := range order {
		fmt.Printf("%.3f  %s\n", similarity(question, vectors[i]), texts[i])
	}
}
