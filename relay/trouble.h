/* What may be wrong between us and the smarthost: states of the host, for which no message can be
 * blamed. */
#ifndef RELAY_TROUBLE_H
#define RELAY_TROUBLE_H

enum trouble {
    TROUBLE_NONE,
    TROUBLE_UNREACHABLE, /* no connection, or it broke, or it was silent */
    TROUBLE_THROTTLED,   /* 421, 454, 4.7.0: it wants less of us */
    TROUBLE_PROTOCOL,    /* it does not speak SMTP as we know it */
    /* These are not mended by waiting: the operator is told in plain words. */
    TROUBLE_NAME,        /* RELAY_HOST is not known */
    TROUBLE_NO_TLS,      /* no STARTTLS, or a handshake that failed */
    TROUBLE_CERTIFICATE, /* not trusted, or for another name */
    TROUBLE_CREDENTIALS, /* refused, or their file cannot be read */
    TROUBLE_COUNT
};

#endif
