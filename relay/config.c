/* The table of settings, and the checks that need more than a range. */
#include "relay/config.h"

#include "common/log.h"
#include "common/slice.h"
#include "queue/path.h"
#include "relay/channel.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#define NUMBER(variable, member, low, high, standard, text)                                        \
    {                                                                                              \
        .name = (variable), .type = SETTING_NUMBER, .fallback = (standard), .minimum = (low),      \
        .maximum = (high), .meaning = (text), .offset = offsetof(struct config, member)            \
    }

#define TEXT(variable, member, standard, text)                                                     \
    {                                                                                              \
        .name = (variable), .type = SETTING_TEXT, .fallback = (standard), .meaning = (text),       \
        .offset = offsetof(struct config, member)                                                  \
    }

static const char *const tls_choices[] = {[CHANNEL_STARTTLS] = "starttls",
                                          [CHANNEL_IMPLICIT] = "implicit",
                                          [CHANNEL_NO_TLS] = "none",
                                          NULL};

const struct setting config_settings[] = {
    SETTINGS_COMMON(struct config, common),
    SITE_SETTINGS(struct config, site),
    TEXT("RELAY_HOST", host, "smtp.gmail.com", "the smarthost: a name or an address"),
    NUMBER("RELAY_PORT", port, 1, 65535, "587", "its port: 587 for starttls, 465 for implicit"),
    {.name = "RELAY_TLS",
     .type = SETTING_CHOICE,
     .fallback = "starttls",
     .choices = tls_choices,
     .meaning = "starttls or implicit, with a certificate that is verified; none: in the clear",
     .offset = offsetof(struct config, tls)},
    TEXT("RELAY_CA", ca, NULL, "PEM file of the authorities to trust; the system's when unset"),
    TEXT("RELAY_USER", user, NULL, "user for AUTH; without one there is none"),
    {.name = "RELAY_PASSWORD",
     .type = SETTING_SECRET,
     .meaning = "password for AUTH PLAIN or LOGIN",
     .offset = offsetof(struct config, password)},
    TEXT("RELAY_PASSWORD_FILE", password_file, NULL,
         "file with the password in its first line, read for each connection"),
    TEXT("RELAY_TOKEN_FILE", token_file, NULL,
         "file with an access token for AUTH XOAUTH2, read for each connection"),
    NUMBER("RELAY_CONNECTIONS", connections, 1, 100, "4", "connections to the smarthost at once"),
    NUMBER("RELAY_MAX_AGE", max_age, 1, 31622400, "432000",
           "seconds before a deferred message is given up"),
    NUMBER("RELAY_TIMEOUT", timeout, 1, 3600, "300",
           "seconds that a reply may take; the one to the end of data twice as long"),
    NUMBER("RELAY_RESCAN", rescan, 1, 86400, "30",
           "seconds between full looks at the queue, for events that were lost"),
};

const size_t config_settings_count = sizeof config_settings / sizeof config_settings[0];

static int refuse(const char *name, const char *expected)
{
    return settings_refuse(config_settings, config_settings_count, name, expected);
}

static int check_host(const struct config *config)
{
    struct in6_addr address;

    if (path_is_domain(slice_of(config->host)) || inet_pton(AF_INET6, config->host, &address) == 1)
        return EX_OK;
    return refuse("RELAY_HOST", "a domain name, an IPv4 address, or an IPv6 address");
}

static int check_file(const char *name, const char *path)
{
    if (path == NULL || access(path, R_OK) == 0)
        return EX_OK;
    return refuse(name, "a file that this user can read");
}

/* Exactly one way to log in, and none that would be said in the clear. */
static int check_login(const struct config *config)
{
    int secrets =
        (config->password != NULL) + (config->password_file != NULL) + (config->token_file != NULL);

    if (config->user != NULL && secrets != 1)
        return refuse("RELAY_USER", "set together with exactly one of RELAY_PASSWORD, "
                                    "RELAY_PASSWORD_FILE and RELAY_TOKEN_FILE, or not at all");
    if (config->user == NULL && secrets > 0)
        return refuse(config->password != NULL        ? "RELAY_PASSWORD"
                      : config->password_file != NULL ? "RELAY_PASSWORD_FILE"
                                                      : "RELAY_TOKEN_FILE",
                      "set together with RELAY_USER, or not at all");
    if (config->user != NULL && config->tls == CHANNEL_NO_TLS)
        return refuse("RELAY_TLS", "starttls or implicit when RELAY_USER is set: a password is "
                                   "never sent in the clear");
    return EX_OK;
}

/* The usual mistake: such a host waits for TLS, and we would wait for its greeting. */
static void warn_of_port(const struct config *config)
{
    if (config->port == 465 && config->tls == CHANNEL_STARTTLS)
        log_warn("port_of_another_kind", LOG_TEXT("setting", "RELAY_TLS"),
                 LOG_TEXT("why", "servers expect RELAY_TLS=implicit on port 465"));
}

int config_check(void *data)
{
    struct config *config = data;
    const int codes[] = {
        site_check(&config->site, config_settings, config_settings_count),
        check_host(config),
        check_login(config),
        check_file("RELAY_CA", config->ca),
        check_file("RELAY_PASSWORD_FILE", config->password_file),
        check_file("RELAY_TOKEN_FILE", config->token_file),
    };

    warn_of_port(config);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] != EX_OK)
            return codes[i];
    return EX_OK;
}
