// Measures the time to the first text of streams, at next to no cost to the machine that it measures.
//
//   cc -O2 -o first_text first_text.c && ./first_text grpc|http PORT PATH REQUESTS IN_FLIGHT TEXT < BODY
//
// Sends BODY again and again to 127.0.0.1, IN_FLIGHT at any time, and prints, a line for each stream, the microseconds from
// its sending until TEXT had come. `grpc`: BODY is a serialized message, the streams share two HTTP/2 connections, as the
// subchannels of a client would. `http`: BODY is JSON, each stream has an HTTP/1.1 connection to itself.
// A client in Python takes as long as the gateway does, so what it reads is mostly its own waiting for a processor.
// Of HTTP/2 it knows what this needs: it does not read headers, never pads, and asks for windows that do not run out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 2       // of `grpc`
#define MOST_IN_FLIGHT 1024
#define ROOM (1 << 20)      // bytes of a request, and of what is read at once
#define STALLED 60000       // milliseconds of silence after which it gives up
#define HTTP_END "data: [DONE]\n\n\r\n0\r\n\r\n"

typedef struct {
  uint32_t id;  // of the HTTP/2 stream; 0: free
  uint64_t sent;
  int has_text;
} stream;

typedef struct {
  int socket;
  unsigned char *in;
  size_t length;
  int64_t window;   // bytes of DATA that the server still takes, all streams together
  uint32_t next_id;
  int width;        // streams at a time
  stream *streams;
} connection;

static int is_grpc, left;
static const char *path, *text;
static unsigned char body[ROOM];
static size_t body_length;

static void fail(const char *why) {
  fprintf(stderr, "first_text: %s\n", why);
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void send_all(int socket, const void *data, size_t length) {
  for (const char *at = data; length;) {
    ssize_t n = send(socket, at, length, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("the connection broke while a request was sent");
    at += n, length -= n;
  }
}

static void has_come(stream *s) {
  if (s->has_text) return;
  s->has_text = 1;
  printf("%llu\n", (unsigned long long)(now() - s->sent));
}

static void is_over(stream *s) {
  if (!s->has_text) fail("a stream ended without the text");
  s->id = 0;
}

// ------------------------------------------------------------------------------------------------------------- HTTP/2

static size_t head(unsigned char *at, size_t length, int type, int flags, uint32_t id) {
  uint32_t big = htonl(id);
  at[0] = length >> 16, at[1] = length >> 8, at[2] = length, at[3] = type, at[4] = flags;
  memcpy(at + 5, &big, 4);
  return 9;
}

static size_t field(unsigned char *at, const char *name, const char *value) {  // literal, not indexed, not Huffman-coded
  size_t n = strlen(name), v = strlen(value);
  at[0] = 0, at[1] = n;
  memcpy(at + 2, name, n);
  at[2 + n] = v;
  memcpy(at + 3 + n, value, v);
  return 3 + n + v;
}

static void greet(connection *c) {
  unsigned char out[128] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  size_t n = 24;
  n += head(out + n, 6, 4, 0, 0);                       // SETTINGS: INITIAL_WINDOW_SIZE
  memcpy(out + n, "\0\4\x7f\xff\xff\xff", 6), n += 6;
  n += head(out + n, 4, 8, 0, 0);                       // WINDOW_UPDATE of the connection
  memcpy(out + n, "\x7f\xf0\0\0", 4), n += 4;
  send_all(c->socket, out, n);
  c->window = 65535, c->next_id = 1;
}

static void ask_grpc(connection *c, stream *s) {
  static unsigned char out[ROOM + 1024];
  unsigned char fields[512];
  size_t f = 0, n = 0;
  f += field(fields + f, ":method", "POST");
  f += field(fields + f, ":scheme", "http");
  f += field(fields + f, ":path", path);
  f += field(fields + f, ":authority", "127.0.0.1");
  f += field(fields + f, "content-type", "application/grpc");
  f += field(fields + f, "te", "trailers");
  f += field(fields + f, "grpc-timeout", "600S");
  s->id = c->next_id, c->next_id += 2, s->has_text = 0;
  n += head(out + n, f, 1, 4, s->id);
  memcpy(out + n, fields, f), n += f;
  n += head(out + n, body_length + 5, 0, 1, s->id);
  uint32_t big = htonl(body_length);
  out[n++] = 0;
  memcpy(out + n, &big, 4), n += 4;
  memcpy(out + n, body, body_length), n += body_length;
  c->window -= body_length + 5;
  s->sent = now();
  send_all(c->socket, out, n);
}

static stream *find(connection *c, uint32_t id) {
  for (int i = 0; i < c->width; i++)
    if (c->streams[i].id == id) return &c->streams[i];
  return NULL;
}

static void frame(connection *c, int type, int flags, uint32_t id, const unsigned char *data, size_t length) {
  unsigned char answer[32];
  stream *s = id ? find(c, id) : NULL;
  if (type == 0 && s && memmem(data, length, text, strlen(text))) has_come(s);
  if (type <= 1 && s && flags & 1) is_over(s);
  if (type == 3 && s) fail("the server reset a stream");
  if (type == 7) fail("the server closes the connection");
  if (type == 8 && !id) c->window += (data[0] & 0x7f) << 24 | data[1] << 16 | data[2] << 8 | data[3];
  if (type == 4 && !(flags & 1)) send_all(c->socket, answer, head(answer, 0, 4, 1, 0));
  if (type == 6 && !(flags & 1)) {
    memcpy(answer + head(answer, 8, 6, 1, 0), data, 8);
    send_all(c->socket, answer, 17);
  }
}

static size_t read_grpc(connection *c) {  // how much of the input it took in
  size_t at = 0;
  while (c->length - at >= 9) {
    const unsigned char *h = c->in + at;
    size_t length = h[0] << 16 | h[1] << 8 | h[2];
    if (length > ROOM - 9) fail("a frame is too large");
    if (c->length - at < 9 + length) break;
    uint32_t id = (h[5] & 0x7f) << 24 | h[6] << 16 | h[7] << 8 | h[8];
    frame(c, h[3], h[4], id, h + 9, length);
    at += 9 + length;
  }
  return at;
}

// ----------------------------------------------------------------------------------------------------------- HTTP/1.1

static void ask_http(connection *c, stream *s) {
  static char out[ROOM + 1024];
  int n = snprintf(out, 1024, "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %zu\r\n\r\n", path, body_length);
  memcpy(out + n, body, body_length);
  s->id = 1, s->has_text = 0, s->sent = now();
  send_all(c->socket, out, n + body_length);
}

static size_t read_http(connection *c) {
  if (memmem(c->in, c->length, text, strlen(text))) has_come(c->streams);
  if (!memmem(c->in, c->length, HTTP_END, strlen(HTTP_END))) return 0;
  is_over(c->streams);
  return c->length;
}

// --------------------------------------------------------------------------------------------------------------- both

static void ask(connection *c) {  // as often as there are requests left and places free
  for (int i = 0; i < c->width && left; i++) {
    if (c->streams[i].id || (is_grpc && c->window < (int64_t)body_length + 5)) continue;
    left--;
    (is_grpc ? ask_grpc : ask_http)(c, &c->streams[i]);
  }
}

static int under_way(connection *c) {
  int count = 0;
  for (int i = 0; i < c->width; i++) count += c->streams[i].id != 0;
  return count;
}

static void hear(connection *c) {
  if (c->length == ROOM) fail("an answer is too large");
  ssize_t n = recv(c->socket, c->in + c->length, ROOM - c->length, 0);
  if (n < 0 && errno == EINTR) return;
  if (n <= 0) fail("the server closed a connection");
  c->length += n;
  size_t taken = (is_grpc ? read_grpc : read_http)(c);
  memmove(c->in, c->in + taken, c->length -= taken);
}

static void dial(connection *c, int port, int width) {
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int one = 1;
  c->socket = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->socket, (struct sockaddr *)&where, sizeof where)) fail("nobody listens on the port");
  setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  c->in = malloc(ROOM);
  c->width = width;
  c->streams = calloc(width, sizeof(stream));
  if (is_grpc) greet(c);
}

int main(int count, char **words) {
  static connection all[MOST_IN_FLIGHT];
  static struct pollfd polled[MOST_IN_FLIGHT];
  if (count != 7) fail("usage: first_text grpc|http PORT PATH REQUESTS IN_FLIGHT TEXT < BODY");
  is_grpc = !strcmp(words[1], "grpc"), path = words[3], left = atoi(words[4]), text = words[6];
  int in_flight = atoi(words[5]), connections = is_grpc ? CONNECTIONS : in_flight;
  if (in_flight < CONNECTIONS || in_flight > MOST_IN_FLIGHT || strlen(path) > 126) fail("a number or the path is out of range");
  body_length = fread(body, 1, ROOM - 16384, stdin);
  for (int i = 0; i < connections; i++) {
    dial(&all[i], atoi(words[2]), in_flight / connections + (i < in_flight % connections));
    polled[i] = (struct pollfd){.fd = all[i].socket, .events = POLLIN};
  }
  for (;;) {
    int busy = 0;
    for (int i = 0; i < connections; i++) {
      ask(&all[i]);
      busy += under_way(&all[i]);
    }
    if (!busy && !left) return 0;
    int ready = poll(polled, connections, STALLED);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) fail("the server says nothing more");
    for (int i = 0; i < connections; i++)
      if (polled[i].revents) hear(&all[i]);
  }
}
