// Package parley calls a Parley gateway: one gRPC API for every language model.
//
//	client, err := parley.NewClient("127.0.0.1:50051")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	reply, err := client.Chat(ctx, "mock/echo", parley.Prompt("hello"))
//	if err != nil {
//		return err
//	}
//	fmt.Println(reply.Text())
//
// The messages are those of package parleyv1, which is generated; Client.Stub is the generated stub, for everything this
// package has no word for.
package parley
