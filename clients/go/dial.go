package parley

import (
	"context"
	"crypto/tls"
	_ "embed" // the service config
	"fmt"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // the service config asks for health checks
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// ServiceConfig is the gRPC service config of the client as JSON: round robin over addresses that say they are healthy,
// and retries of calls that could not reach a gateway. What a gateway gave up on is not retried: it has made its own
// attempts, and says so with a pushback that gRPC honours.
//
//go:embed service_config.json
var ServiceConfig string

const (
	mebibyte = 1024 * 1024
	version  = "0.1.0"
)

type clientSettings struct {
	token         string
	tls           *tls.Config
	insecure      bool
	timeout       time.Duration
	headers       metadata.MD
	serviceConfig string
	dial          []grpc.DialOption
}

// ClientOption is how a client differs from the usual one.
type ClientOption func(*clientSettings)

// WithToken sends a token with every call.
func WithToken(token string) ClientOption { return func(s *clientSettings) { s.token = token } }

// WithTLS encrypts the connection; nil: with the authorities that the system knows.
func WithTLS(config *tls.Config) ClientOption {
	return func(s *clientSettings) {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		s.tls = config
	}
}

// WithoutTLS allows a token to travel in clear beyond this machine.
func WithoutTLS() ClientOption { return func(s *clientSettings) { s.insecure = true } }

// WithTimeout is the time of calls whose context has no deadline, instead of ten minutes; 0: none.
func WithTimeout(timeout time.Duration) ClientOption {
	return func(s *clientSettings) { s.timeout = timeout }
}

// WithHeader sends gRPC metadata with every call.
func WithHeader(name string, values ...string) ClientOption {
	return func(s *clientSettings) {
		s.headers = metadata.Join(s.headers, metadata.MD{strings.ToLower(name): values})
	}
}

// WithServiceConfig replaces ServiceConfig.
func WithServiceConfig(json string) ClientOption {
	return func(s *clientSettings) { s.serviceConfig = json }
}

// WithDialOptions adds options of gRPC, such as interceptors; they win over the client's own.
func WithDialOptions(options ...grpc.DialOption) ClientOption {
	return func(s *clientSettings) { s.dial = append(s.dial, options...) }
}

func (s *clientSettings) dialOptions(address string) ([]grpc.DialOption, error) {
	if strings.Contains(address, "://") && !hasPrefix(address, "dns://", "xds://", "unix://", "passthrough://") {
		return nil, fmt.Errorf("parley: %s: an address is host:port; TLS is an option, WithTLS", address)
	}
	if s.token != "" && s.tls == nil && !s.insecure && !isLocal(address) {
		return nil, fmt.Errorf(
			"parley: the token would travel in clear to %s: use WithTLS, or WithoutTLS if that is meant", address)
	}
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	config := s.serviceConfig
	if config == "" {
		config = ServiceConfig
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithUserAgent("parley-go/" + version),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(64*mebibyte), // gRPC's default, 4 MiB, is 300 vectors of 3072 floats
			grpc.MaxCallSendMsgSize(64*mebibyte), // the server has the say: 32 MiB unless configured otherwise
			grpc.MaxRetryRPCBufferSize(32*mebibyte),
		),
	}
	return append(options, s.dial...), nil
}

// traceOf gives the W3C headers of the current span; none where there is no trace.
func traceOf(ctx context.Context) metadata.MD {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return metadata.New(carrier)
}

func isLocal(address string) bool {
	if hasPrefix(address, "unix:", "unix-abstract:") {
		return true
	}
	address = strings.TrimLeft(strings.TrimPrefix(address, "dns:"), "/")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func hasPrefix(text string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}
