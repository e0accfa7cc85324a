/* The settings of smtpd: one row each, in config.c, is all there is to add one. */
#ifndef SMTPD_CONFIG_H
#define SMTPD_CONFIG_H

#include "common/settings.h"
#include "queue/site.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* SMTPD_CONFINE */
enum config_confine { CONFINE_TRY, CONFINE_REQUIRE, CONFINE_OFF };

struct config {
    struct settings_common common;
    struct setting_list listen;
    long port; /* -1: unset */
    struct site_settings site;
    struct setting_list discard_domains;
    struct setting_list reject_senders;
    struct setting_list reject_recipients;
    struct setting_list relay_clients;
    struct setting_list proxy_clients;
    long max_size;
    long max_recipients;
    long max_connections;
    long max_connections_per_client;
    long max_errors;
    long max_messages;
    long max_junk;
    long error_delay; /* seconds, as all times here */
    long timeout;
    long min_rate;
    long max_time;
    long pregreet;
    long min_free;
    const char *tls_cert;
    const char *tls_key;
    bool require_tls;
    bool reuseport;
    int confine; /* enum config_confine */
};

extern const struct setting config_settings[];
extern const size_t config_settings_count;

/* Checks what the table cannot, and fills in the host's name. 0, or EX_CONFIG after saying why. */
int config_check(void *config);

/* Reads the lists' files again. A list that could not be read, or has an entry in it that
 * config_check would refuse, stays as it was and is marked broken. */
void config_reread(struct config *config);

/* Reads `192.0.2.1:25` or `[2001:db8::1]:25`; false when it is neither. */
bool config_parse_address(const char *text, struct sockaddr_storage *address);

/* Reads `name:25`: every address of the name, with the port, for the caller to free (freeaddrinfo).
 * NULL when it has none, or when it is no name. Blocks while it is looked up. */
struct addrinfo *config_resolve(const char *text);

#endif
