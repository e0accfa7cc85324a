/* A session of the load generator: a place for one connection at a time, and what is said there. */
#ifndef TESTS_BENCH_LOAD_SESSION_H
#define TESTS_BENCH_LOAD_SESSION_H

#include <stddef.h>
#include <stdint.h>

struct load;
struct load_session;

/* The sessions of `load`, all free; NULL when memory is out. */
struct load_session *load_session_make(struct load *load);

/* Closes their connections, and frees them. */
void load_session_unmake(struct load_session *sessions);

/* Lets the free sessions begin what may begin now. */
void load_session_dispatch(struct load *load);

/* What epoll said of a session's socket. */
void load_session_event(struct load_session *session, uint32_t events);

#endif
