/* The settings of the server under test: a few that differ in what a client can come to. */
#ifndef TESTS_FUZZ_SESSION_SETTINGS_H
#define TESTS_FUZZ_SESSION_SETTINGS_H

#include "smtpd/config.h"

enum { SETTINGS_COUNT = 7 };

/* A domain of them all whose mail is answered 250 and dropped. */
extern char settings_discarded[];

/* What is not the same in each process. */
struct settings_paths {
    const char *spool;
    const char *certificate, *key;
};

/* Fills in the settings of a number below SETTINGS_COUNT. */
void settings_choose(struct config *config, unsigned choice, const struct settings_paths *paths);

#endif
