// An upstream that answers like OpenAI's chat completions, at next to no cost.
//
//   cc -O2 -o mock_upstream mock_upstream.c && ./mock_upstream PORT        (listens on 127.0.0.1; needs Linux)
//
// The name of the model says how it answers; letters that are missing have the defaults shown:
//   mock-u400-d0               whole answer: u = bytes of text, d = milliseconds before the answer
//   mock-c50-s20-k1-p0-d0      stream: c = events with text, s = bytes of text in each, k = events in one write,
//                              p = milliseconds between writes (0: as fast as they are taken)
// The text repeats TEXT from its beginning to the length asked for, so whoever reads it knows what it has to be.
//
//   ./mock_upstream PORT FILE CONTENT_TYPE
//
// answers every POST with the stream in FILE instead, BURST events in one write: for each event its length, four bytes,
// the least first, and its bytes. So it speaks any dialect, always saying the same.
//
// GET /v1/models lists one model. GET /stats: {"requests", "body_bytes", "events"} so far; {"connections", "running"} now,
// without the connection that asks.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TEXT "the quick brown fox jumps over the lazy dog while seven wizards brew "
#define TEXT_LENGTH (sizeof TEXT - 1)
#define LONGEST_TEXT (1 << 20)
#define READ_SIZE 65536
#define BURST 4

// What a provider's answer has in its head, roughly.
#define HEADERS                                                                                                       \
  "date: Thu, 01 Jan 2026 00:00:00 GMT\r\naccess-control-expose-headers: X-Request-ID\r\nopenai-organization: mock\r\n"    \
  "openai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n"                     \
  "x-ratelimit-limit-tokens: 2000000\r\nx-ratelimit-remaining-requests: 9999\r\n"                                       \
  "x-ratelimit-remaining-tokens: 1999990\r\nx-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 0s\r\n"        \
  "x-request-id: req_0123456789abcdef0123456789abcdef\r\nstrict-transport-security: max-age=31536000\r\n"               \
  "cf-cache-status: DYNAMIC\r\nserver: mock\r\nconnection: keep-alive\r\n"

#define CHUNK                                                                                                         \
  "data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,"  \
  "\"model\":\"mock\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":["

typedef struct {
  char *data;
  size_t length, room;
} buffer;

typedef struct connection {
  int socket;
  buffer in, out;
  size_t sent;                          // bytes of `out` that have been sent
  int waits_for_room;                   // whether epoll tells when more can be sent
  enum { IDLE, WHOLE, STREAM } answer;  // what is to be said at `due`
  uint64_t due;                         // microseconds
  int events, size, burst, pause, text; // of the answer under way: c, s, k, p, u
  int said;                             // events of it that have been written
  size_t read;                          // bytes of the recital that have been written
  int with_usage;
  struct connection *next, *previous;   // the connections that have something to say
} connection;

static int poller;
static connection speaking = {.next = &speaking, .previous = &speaking};
static int connections, running;
static uint64_t requests, body_bytes, all_events;
static char text[LONGEST_TEXT + TEXT_LENGTH];
static const char *recital_type;        // what FILE holds, if there is one
static unsigned char *recital;
static size_t recital_length;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000ull + time.tv_nsec / 1000;
}

static void make_room(buffer *b, size_t more) {
  if (b->length + more <= b->room) return;
  b->room = 2 * (b->length + more);
  b->data = realloc(b->data, b->room);
  if (!b->data) abort();
}

static void put(connection *c, const char *data, size_t length) {
  make_room(&c->out, length);
  memcpy(c->out.data + c->out.length, data, length);
  c->out.length += length;
}

#define PUT(c, ...)                                       \
  do {                                                    \
    char line_[4096];                                     \
    put(c, line_, snprintf(line_, sizeof line_, __VA_ARGS__)); \
  } while (0)

static void begin(connection *c, int answer, int delay) {
  c->answer = answer;
  c->due = now() + delay * 1000ull;
  c->said = 0;
  c->next = speaking.next;
  c->previous = &speaking;
  c->next->previous = c->previous->next = c;
  running++;
}

static void end(connection *c) {
  if (c->answer == IDLE) return;
  c->answer = IDLE;
  c->next->previous = c->previous;
  c->previous->next = c->next;
  running--;
}

static void hang_up(connection *c) {
  end(c);
  close(c->socket);  // epoll forgets it
  free(c->in.data);
  free(c->out.data);
  free(c);
  connections--;
}

static int flush(connection *c) {  // -1: the connection is broken
  while (c->sent < c->out.length) {
    ssize_t n = send(c->socket, c->out.data + c->sent, c->out.length - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return -1;
    if (n < 0) break;
    c->sent += n;
  }
  int waits = c->sent < c->out.length;
  if (!waits) c->sent = c->out.length = 0;
  if (waits != c->waits_for_room) {
    struct epoll_event wish = {.events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->socket, &wish);
    c->waits_for_room = waits;
  }
  return 0;
}

static void say_json(connection *c, const char *body, size_t length) {
  PUT(c, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n", length, HEADERS);
  put(c, body, length);
}

static void say_whole(connection *c) {
  static char body[LONGEST_TEXT + 4096];
  int n = snprintf(body, sizeof body,
    "{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion\",\"created\":1741569952,"
    "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%.*s\",\"refusal\":null,"
    "\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":190,"
    "\"completion_tokens\":100,\"total_tokens\":290,\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
    "\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\"}",
    c->text, text);
  say_json(c, body, n);
}

static void say_event(connection *c, const char *event, int length) {  // one HTTP chunk each, as providers do
  PUT(c, "%x\r\n", length);
  put(c, event, length);
  put(c, "\r\n", 2);
  all_events++;
}

static void recite(connection *c) {  // one write of the recital; ends it after the last
  for (int i = 0; i < BURST && c->read + 4 <= recital_length; i++) {
    const unsigned char *at = recital + c->read;
    size_t length = at[0] | at[1] << 8 | at[2] << 16 | (size_t)at[3] << 24;
    say_event(c, (const char *)at + 4, length);
    c->read += 4 + length;
  }
  if (c->read + 4 <= recital_length) return;
  put(c, "0\r\n\r\n", 5);
  end(c);
}

static void say_more(connection *c) {  // one write of a stream; ends it after the last
  static char event[LONGEST_TEXT + 4096];
  const char *no_usage = c->with_usage ? ",\"usage\":null" : "";
  int n;
  for (int i = 0; i < c->burst && c->said < c->events; i++, c->said++) {
    size_t from = (size_t)c->said * c->size % TEXT_LENGTH;
    n = snprintf(event, sizeof event,
      CHUNK "{\"index\":0,\"delta\":{%s\"content\":\"%.*s\"},\"logprobs\":null,\"finish_reason\":null}]%s}\n\n",
      c->said ? "" : "\"role\":\"assistant\",", c->size, text + from, no_usage);
    say_event(c, event, n);
  }
  if (c->said < c->events) {
    c->due += c->pause * 1000ull;
    return;
  }
  n = snprintf(event, sizeof event,
    CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]%s}\n\n", no_usage);
  say_event(c, event, n);
  if (c->with_usage) {
    n = snprintf(event, sizeof event,
      CHUNK "],\"usage\":{\"prompt_tokens\":190,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", c->events, 190 + c->events);
    say_event(c, event, n);
  }
  say_event(c, "data: [DONE]\n\n", 14);
  put(c, "0\r\n\r\n", 5);
  end(c);
}

static int parameter(const char *model, size_t length, char letter, int otherwise, int most) {
  for (size_t i = 0; i + 2 < length; i++)
    if (model[i] == '-' && model[i + 1] == letter) {
      int value = atoi(model + i + 2);
      return value < 0 ? 0 : value > most ? most : value;
    }
  return otherwise;
}

static const char *value_of(const char *key, const char *json, size_t length) {  // "" if the key is not there
  const char *found = memmem(json, length, key, strlen(key));
  if (!found) return "";
  for (found += strlen(key); *found == ' ' || *found == ':'; found++) {}
  return found;
}

static void take_request(connection *c, const char *head, const char *body, size_t length) {
  if (!strncmp(head, "GET /stats", 10)) {
    char stats[256];
    int n = snprintf(stats, sizeof stats,
      "{\"requests\":%llu,\"body_bytes\":%llu,\"events\":%llu,\"connections\":%d,\"running\":%d}",
      (unsigned long long)requests, (unsigned long long)body_bytes, (unsigned long long)all_events, connections - 1, running);
    say_json(c, stats, n);
    return;
  }
  if (!strncmp(head, "GET ", 4)) {
    static const char *models =
      "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1,\"owned_by\":\"mock\"}]}";
    say_json(c, models, strlen(models));
    return;
  }
  requests++;
  body_bytes += length;
  if (recital) {
    PUT(c, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n%s\r\n", recital_type, HEADERS);
    c->read = 0;
    begin(c, STREAM, 0);
    return;
  }
  const char *model = value_of("\"model\"", body, length);
  size_t n = *model == '"' ? strcspn(model + 1, "\"") : 0;
  c->events = parameter(model + 1, n, 'c', 50, 1 << 20);
  c->size = parameter(model + 1, n, 's', 20, LONGEST_TEXT - 1);
  c->burst = parameter(model + 1, n, 'k', 1, 1 << 10);
  c->pause = parameter(model + 1, n, 'p', 0, 60000);
  c->text = parameter(model + 1, n, 'u', 400, LONGEST_TEXT - 1);
  c->with_usage = !strncmp(value_of("\"include_usage\"", body, length), "true", 4);
  int delay = parameter(model + 1, n, 'd', 0, 60000);
  if (strncmp(value_of("\"stream\"", body, length), "true", 4)) {
    begin(c, WHOLE, delay);
    return;
  }
  PUT(c, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n%s\r\n", HEADERS);
  begin(c, STREAM, delay);
}

static int take_requests(connection *c) {  // as many as have arrived whole; -1: not HTTP as it is understood here
  while (c->answer == IDLE && c->in.length) {
    make_room(&c->in, 1);
    c->in.data[c->in.length] = 0;  // so that the functions for strings end
    char *gap = memmem(c->in.data, c->in.length, "\r\n\r\n", 4);
    if (!gap) return 0;
    *gap = 0;
    char *field = strcasestr(c->in.data, "\r\ncontent-length:");
    size_t head = gap + 4 - c->in.data, body = field ? strtoul(field + 17, 0, 10) : 0;
    if (strcasestr(c->in.data, "\r\ntransfer-encoding:")) return -1;
    if (c->in.length < head + body) {
      *gap = '\r';
      return 0;
    }
    take_request(c, c->in.data, c->in.data + head, body);
    c->in.length -= head + body;
    memmove(c->in.data, c->in.data + head + body, c->in.length);
  }
  return 0;
}

static int receive(connection *c) {  // -1: the connection is over
  for (;;) {
    make_room(&c->in, READ_SIZE + 1);
    ssize_t n = recv(c->socket, c->in.data + c->in.length, READ_SIZE, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return -1;
    if (n > 0) c->in.length += n;
    if (n < READ_SIZE) return take_requests(c);
  }
}

static void welcome(int listener) {
  int one = 1, socket;
  while ((socket = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->socket = socket;
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, socket, &wish);
    connections++;
  }
}

static void speak(void) {  // everybody whose time has come says one thing
  uint64_t time = now();
  for (connection *c = speaking.next, *next; c != &speaking; c = next) {
    next = c->next;
    if (c->due > time || c->waits_for_room) continue;
    if (c->answer == STREAM) {
      (recital ? recite : say_more)(c);
    } else {
      say_whole(c);
      end(c);
    }
    if (flush(c) < 0 || take_requests(c) < 0) hang_up(c);
  }
}

static void wait_for(struct epoll_event *found, int most, int *count) {
  uint64_t first = UINT64_MAX, time = now();
  for (connection *c = speaking.next; c != &speaking; c = c->next)
    if (!c->waits_for_room && c->due < first) first = c->due;
  uint64_t wait = first == UINT64_MAX ? 3600000000ull : first > time ? first - time : 0;
  struct timespec limit = {wait / 1000000, wait % 1000000 * 1000};
  *count = epoll_pwait2(poller, found, most, &limit, 0);
}

int main(int argc, char **argv) {
  for (size_t i = 0; i < sizeof text; i++) text[i] = TEXT[i % TEXT_LENGTH];
  if (argc > 3) {
    FILE *file = fopen(argv[2], "rb");
    recital_type = argv[3];
    recital = malloc(LONGEST_TEXT);
    if (!file || !recital || !(recital_length = fread(recital, 1, LONGEST_TEXT, file))) {
      perror(argv[2]);
      return 1;
    }
    fclose(file);
  }
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {
    .sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 9100), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
    perror("mock_upstream");
    return 1;
  }
  poller = epoll_create1(0);
  struct epoll_event wish = {.events = EPOLLIN, .data.ptr = 0}, found[256];
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wish);
  for (;;) {
    int count;
    wait_for(found, 256, &count);
    for (int i = 0; i < count; i++) {
      connection *c = found[i].data.ptr;
      if (!c)
        welcome(listener);
      else if ((found[i].events & ~EPOLLOUT && receive(c) < 0) || flush(c) < 0)
        hang_up(c);
    }
    speak();
  }
}
