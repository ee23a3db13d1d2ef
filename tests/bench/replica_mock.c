// A replica that costs almost nothing: wire.replica over HTTP/1.1, epoll, one thread. To requests for /v1/chat/ it is an OpenAI
// server instead, with the same tokens at the same pace: what the other gateways in the bench are put in front of.
// Of a request it reads "max_tokens":N (how many steps it sends) and pace_us=P in any message (microseconds between
// steps; 0 or none sends everything at once); with "whole":true all steps are one line and the answer has a length, as
// the real replica does it. Usage: replica_mock [REVISION]. Built with cc -O2 replica_mock.c.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, BURST = 1 << 18, EVENTS = 256 };

typedef struct Connection {
    int fd, length, is_openai;
    long steps, sent, pace_us;
    long long next_us;
    struct Connection *next, *previous;  // in the list of paced streams
    int is_paced;
    char in[BUFFER + 1];
} Connection;

static Connection paced;  // head of the list
static const char *REVISION = "sha256:abababababababababababababababababababababababababababababababab";
static const char *HEAD =
    "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
static const char *SSE_HEAD =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    "transfer-encoding: chunked\r\n\r\n";
#define OPENAI(object) \
    "{\"id\":\"chatcmpl-7f3c9a1b2d4e5f60718293a4b5c6d7e8\",\"object\":\"" object "\",\"created\":1763600000," \
    "\"model\":\"mock\",\"choices\":["
#define USAGE "\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":%ld,\"total_tokens\":%ld}}"
static char burst[BURST];

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int write_all(int fd, const char *data, int length) {
    while (length > 0) {
        ssize_t wrote = send(fd, data, length, MSG_NOSIGNAL);
        if (wrote < 0) {
            if (errno != EAGAIN) return -1;
            usleep(50);
            continue;
        }
        data += wrote;
        length -= wrote;
    }
    return 0;
}

static int chunk(char *out, const char *line, int length) {
    int n = sprintf(out, "%x\r\n", length);
    memcpy(out + n, line, length);
    memcpy(out + n + length, "\r\n", 2);
    return n + length + 2;
}

static int prompt_text(char *line) {
    int n = sprintf(line, "{\"e\":\"p\",\"ids\":[");
    for (int i = 0; i < 42; i++) n += sprintf(line + n, i ? ",%d" : "%d", 100 + i);
    return n + sprintf(line + n, "]}\n");
}

static int prompt_line(char *out) {
    char line[1024];
    return chunk(out, line, prompt_text(line));
}

static int sse_step(char *out, long i) {
    char event[512];
    int n = sprintf(event, "data: " OPENAI("chat.completion.chunk") "{\"index\":0,\"delta\":{\"content\":\" t%05ld\"},"
                    "\"logprobs\":null,\"finish_reason\":null}]}\n\n", i);
    return chunk(out, event, n);
}

static int sse_finish(char *out, long steps) {
    char events[1024];
    int n = sprintf(events, "data: " OPENAI("chat.completion.chunk") "{\"index\":0,\"delta\":{},\"logprobs\":null,"
                    "\"finish_reason\":\"length\"}]}\n\ndata: " OPENAI("chat.completion.chunk") "]," USAGE
                    "\n\ndata: [DONE]\n\n", steps, steps + 42);
    n = chunk(out, events, n);
    memcpy(out + n, "0\r\n\r\n", 5);
    return n + 5;
}

static int openai_whole(char *out, long steps) {
    static char body[BURST / 2];
    int n = sprintf(body, OPENAI("chat.completion") "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
    for (long i = 0; i < steps && n < BURST / 2 - 512; i++) n += sprintf(body + n, " t%05ld", i);
    n += sprintf(body + n, "\"},\"logprobs\":null,\"finish_reason\":\"length\"}]," USAGE, steps, steps + 42);
    return sprintf(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
}

static int step_line(char *out, long i) {
    char line[256];
    int n = sprintf(line, "{\"e\":\"s\",\"i\":%ld,\"t\":[%ld],\"n\":%ld,\"d\":\" t%05ld\"}\n", i, 1000 + i, i + 1, i);
    return chunk(out, line, n);
}

static int finish_text(char *line, long steps) {
    return sprintf(line,
                   "{\"e\":\"f\",\"finish\":\"length\",\"usage\":{\"prompt\":42,\"completion\":%ld,\"cached\":0},"
                   "\"revision\":\"%s\",\"engine\":\"mock 1\"}\n", steps, REVISION);
}

static int whole_answer(char *out, long steps) {
    static char body[BURST / 2];
    int n = prompt_text(body);
    n += sprintf(body + n, "{\"e\":\"s\",\"i\":0,\"t\":[");
    for (long i = 0; i < steps; i++) n += sprintf(body + n, i ? ",%ld" : "%ld", 1000 + i);
    n += sprintf(body + n, "],\"n\":%ld,\"d\":\"", steps);
    for (long i = 0; i < steps; i++) n += sprintf(body + n, " t%05ld", i);
    n += sprintf(body + n, "\"}\n");
    n += finish_text(body + n, steps);
    int head = sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", n);
    memcpy(out + head, body, n);
    return head + n;
}

static int finish_line(char *out, long steps) {
    char line[512];
    int n = chunk(out, line, finish_text(line, steps));
    memcpy(out + n, "0\r\n\r\n", 5);
    return n + 5;
}

static void unlink_paced(Connection *c) {
    if (!c->is_paced) return;
    c->is_paced = 0;
    c->previous->next = c->next;
    if (c->next) c->next->previous = c->previous;
}

static void link_paced(Connection *c) {
    c->is_paced = 1;
    c->next = paced.next;
    c->previous = &paced;
    if (paced.next) paced.next->previous = c;
    paced.next = c;
}

static int advance(Connection *c, long long now) {  // sends what is due
    char line[2048];
    while (now >= c->next_us) {
        c->next_us += c->pace_us;
        if (c->sent < c->steps) {
            long i = c->sent++;
            if (write_all(c->fd, line, c->is_openai ? sse_step(line, i) : step_line(line, i))) return -1;
        } else {
            unlink_paced(c);
            return write_all(c->fd, line, (c->is_openai ? sse_finish : finish_line)(line, c->steps));
        }
    }
    return 0;
}

static int answer(Connection *c, char *body) {
    char *found = strstr(body, "\"max_tokens\":");
    c->steps = found ? atol(found + 13) : 16;
    found = strstr(body, "pace_us=");
    c->pace_us = found ? atol(found + 8) : 0;
    c->sent = 0;
    if (!c->pace_us && c->steps < 2000 && strstr(body, "\"whole\":true"))
        return write_all(c->fd, burst, whole_answer(burst, c->steps));
    if (c->is_openai && !strstr(body, "\"stream\":true") && !strstr(body, "\"stream\": true"))
        return write_all(c->fd, burst, openai_whole(burst, c->steps));
    int n = sprintf(burst, "%s", c->is_openai ? SSE_HEAD : HEAD);
    if (!c->is_openai) n += prompt_line(burst + n);
    if (c->pace_us) {
        c->next_us = now_us() + c->pace_us;
        link_paced(c);
        return write_all(c->fd, burst, n);
    }
    for (long i = 0; i < c->steps && n < BURST - 4096; i++) n += (c->is_openai ? sse_step : step_line)(burst + n, i);
    n += (c->is_openai ? sse_finish : finish_line)(burst + n, c->steps);
    return write_all(c->fd, burst, n);
}

static int serve(Connection *c) {  // every complete request in the buffer
    for (;;) {
        c->in[c->length] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return 0;
        int head = end - c->in + 4, size = 0;
        char *found = strcasestr(c->in, "content-length:");
        if (found && found < end) size = atoi(found + 15);
        if (c->length < head + size) return 0;
        c->is_openai = !strncmp(c->in, "POST /v1/chat/", 14);
        char kept = c->in[head + size];
        c->in[head + size] = 0;
        int failed = answer(c, c->in + head);
        c->in[head + size] = kept;
        c->length -= head + size;
        memmove(c->in, c->in + head + size, c->length);
        if (failed) return -1;
    }
}

static void drop(Connection *c) {
    unlink_paced(c);
    close(c->fd);
    free(c);
}

static void accept_all(int epoll, int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int count, char **arguments) {
    if (count > 1) REVISION = arguments[1];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (void *)&address, size) || listen(listener, 1024)) return perror("listen"), 1;
    getsockname(listener, (void *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = 0}, events[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, paced.next ? 1 : -1);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(epoll, listener);
                continue;
            }
            ssize_t got = recv(c->fd, c->in + c->length, BUFFER - c->length, 0);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                drop(c);
            } else if (got > 0) {
                c->length += got;
                if (serve(c)) drop(c);
            }
        }
        long long now = now_us();
        for (Connection *c = paced.next, *next; c; c = next) {
            next = c->next;
            if (advance(c, now)) drop(c);
        }
    }
}
