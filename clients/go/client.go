package parley

import (
	"context"
	"errors"
	"iter"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

const (
	defaultTimeout = 10 * time.Minute
	quickTimeout   = 15 * time.Second // of calls that no model works on
)

// Client is a connection to a gateway, safe for use by several goroutines. Close it.
//
// Every method gives a *GatewayError, or an error that unwraps to one, when its call fails.
type Client struct {
	address string
	timeout time.Duration
	headers metadata.MD
	conn    *grpc.ClientConn
	stub    parleyv1.GatewayServiceClient
}

// NewClient makes a client; the connection is opened by its first call.
//
// An address is host:port, or any gRPC target such as "dns:///parley:50051"; if empty that of PARLEY_ADDRESS, else
// 127.0.0.1:50051. A token comes from PARLEY_TOKEN unless WithToken gives one.
func NewClient(address string, options ...ClientOption) (*Client, error) {
	if address == "" {
		address = os.Getenv("PARLEY_ADDRESS")
	}
	if address == "" {
		address = "127.0.0.1:50051"
	}
	settings := clientSettings{timeout: defaultTimeout, token: os.Getenv("PARLEY_TOKEN")}
	for _, option := range options {
		option(&settings)
	}
	dialOptions, err := settings.dialOptions(address)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, dialOptions...)
	if err != nil {
		return nil, err
	}
	headers := metadata.Join(settings.headers)
	if settings.token != "" {
		headers.Set("authorization", "Bearer "+settings.token)
	}
	return &Client{address, settings.timeout, headers, conn, parleyv1.NewGatewayServiceClient(conn)}, nil
}

// Stub is the generated stub. It knows no token, no trace and no default timeout; its errors are those of gRPC.
func (c *Client) Stub() parleyv1.GatewayServiceClient { return c.stub }

// Close closes the connection; calls that still run fail.
func (c *Client) Close() error { return c.conn.Close() }

// Chat asks for one turn of a model.
func (c *Client) Chat(
	ctx context.Context, model string, messages []*parleyv1.Message, options ...ChatOption,
) (*Reply, error) {
	request := chatRequest(model, messages, options)
	ctx, cancel := c.outgoing(ctx, c.timeout)
	defer cancel()
	response, err := c.stub.Chat(ctx, request)
	if err != nil {
		return nil, fromRPC(ctx, err, c.address, false)
	}
	return &Reply{response}, nil
}

// Stream asks for one turn of a model, as it comes. Close it: leaving it early ends the call, and the work behind it.
// Failures are told where it is read.
func (c *Client) Stream(
	ctx context.Context, model string, messages []*parleyv1.Message, options ...ChatOption,
) *Stream {
	var settings streamSettings
	request := &parleyv1.StreamChatRequest{
		Start: &parleyv1.StreamChatRequest_Request{Request: chatRequest(model, messages, options)},
	}
	for _, option := range options {
		if option, ok := option.(streamOption); ok {
			option(&settings)
		}
	}
	request.Options = &settings.options
	return c.stream(ctx, request, settings.resume, settings.outlasts)
}

// Resume gives what comes after an event of a resumable stream, also one that another client began; 0: all of it.
// Both arguments are what that stream had as ResponseID and LastSequence. It goes on by itself when its connection
// breaks; leaving it leaves the answer to whoever began it.
func (c *Client) Resume(ctx context.Context, responseID string, afterSequence int32) *Stream {
	from := &parleyv1.ResumeFrom{ResponseId: responseID, AfterSequence: afterSequence}
	request := &parleyv1.StreamChatRequest{Start: &parleyv1.StreamChatRequest_Resume{Resume: from}}
	return c.stream(ctx, request, true, true)
}

// Embed gives the vectors of texts, in their order.
func (c *Client) Embed(ctx context.Context, model string, texts []string, options ...EmbedOption) (*Embeddings, error) {
	request := &parleyv1.EmbedRequest{Model: model, Encoding: parleyv1.EmbeddingEncoding_EMBEDDING_ENCODING_FLOAT32_BYTES}
	for _, text := range texts {
		request.Inputs = append(request.Inputs, &parleyv1.EmbedInput{Kind: &parleyv1.EmbedInput_Text{Text: text}})
	}
	for _, option := range options {
		option(request)
	}
	ctx, cancel := c.outgoing(ctx, c.timeout)
	defer cancel()
	response, err := c.stub.Embed(ctx, request)
	if err != nil {
		return nil, fromRPC(ctx, err, c.address, false)
	}
	return embeddings(response)
}

// Rerank gives the documents by how well they answer the query, best first.
func (c *Client) Rerank(
	ctx context.Context, model, query string, documents []string, options ...RerankOption,
) (*parleyv1.RerankResponse, error) {
	request := &parleyv1.RerankRequest{Model: model, Query: query, Documents: documents}
	for _, option := range options {
		option(request)
	}
	ctx, cancel := c.outgoing(ctx, c.timeout)
	defer cancel()
	response, err := c.stub.Rerank(ctx, request)
	if err != nil {
		return nil, fromRPC(ctx, err, c.address, false)
	}
	return response, nil
}

// Models lists all models that can be asked, in the order of their IDs; pages are fetched as they are needed. The request
// says which: by provider, operation ("chat", "embed", "rerank"), capabilities. Nil: all.
func (c *Client) Models(ctx context.Context, request *parleyv1.ListModelsRequest) iter.Seq2[*parleyv1.Model, error] {
	return func(yield func(*parleyv1.Model, error) bool) {
		asked := &parleyv1.ListModelsRequest{
			PageSize: request.GetPageSize(), PageToken: request.GetPageToken(), Provider: request.GetProvider(),
			Capabilities: request.GetCapabilities(), Operation: request.GetOperation(),
		}
		for {
			page, err := c.page(ctx, asked)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, model := range page.GetModels() {
				if !yield(model, nil) {
					return
				}
			}
			if page.GetNextPageToken() == "" {
				return
			}
			if page.GetNextPageToken() == asked.GetPageToken() {
				yield(nil, errors.New("parley: the gateway gives the same page of models again and again"))
				return
			}
			asked.PageToken = page.GetNextPageToken()
		}
	}
}

func (c *Client) page(ctx context.Context, request *parleyv1.ListModelsRequest) (*parleyv1.ListModelsResponse, error) {
	ctx, cancel := c.outgoing(ctx, quickTimeout)
	defer cancel()
	page, err := c.stub.ListModels(ctx, request)
	if err != nil {
		return nil, fromRPC(ctx, err, c.address, false)
	}
	return page, nil
}

// Model gives one model.
func (c *Client) Model(ctx context.Context, model string) (*parleyv1.Model, error) {
	ctx, cancel := c.outgoing(ctx, quickTimeout)
	defer cancel()
	answer, err := c.stub.GetModel(ctx, &parleyv1.GetModelRequest{Model: model})
	if err != nil {
		return nil, fromRPC(ctx, err, c.address, false)
	}
	return answer.GetModel(), nil
}

// Info gives version, features, providers and limits of the gateway.
func (c *Client) Info(ctx context.Context) (*parleyv1.GetServerInfoResponse, error) {
	ctx, cancel := c.outgoing(ctx, quickTimeout)
	defer cancel()
	info, err := c.stub.GetServerInfo(ctx, &parleyv1.GetServerInfoRequest{})
	if err != nil {
		return nil, fromRPC(ctx, err, c.address, false)
	}
	return info, nil
}

// outgoing is ctx for one call: with metadata and trace, and with a deadline if it has none.
func (c *Client) outgoing(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	given, _ := metadata.FromOutgoingContext(ctx)
	ctx = metadata.NewOutgoingContext(ctx, metadata.Join(c.headers, traceOf(ctx), given))
	if _, has := ctx.Deadline(); has || timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
