/* The settings of the server under test: a few that differ in what a client can come to. */
#ifndef TESTS_FUZZ_SESSION_SETTINGS_H
#define TESTS_FUZZ_SESSION_SETTINGS_H

#include "smtpd/address.h"
#include "smtpd/config.h"

#include <stdbool.h>

enum { SETTINGS_COUNT = 9 };

/* A domain of them all whose mail is answered 250 and dropped. */
extern char settings_discarded[];

/* Whether the settings that relay do so for a client, as is written in them. */
bool settings_relay_for(const struct address *client);

/* What is not the same in each process. */
struct settings_paths {
    const char *spool;
    const char *certificate, *key;
};

/* Fills in the settings of a number below SETTINGS_COUNT. */
void settings_choose(struct config *config, unsigned choice, const struct settings_paths *paths);

#endif
