/* What a message asks of a server: see the header. */
#include "relay/survey.h"

#include "common/ascii.h"

#include <string.h>

void survey_init(struct survey *survey)
{
    *survey = (struct survey){.matching = true};
}

static void end_line(struct survey *survey)
{
    survey->in_body = survey->column == 0;
    survey->column = 0;
    survey->matching = true;
}

/* White space before the colon was allowed once (RFC 5322, section 4.5). */
static void read_name(struct survey *survey, char c)
{
    static const char name[] = "received";
    size_t length = sizeof name - 1;

    if (survey->column < length) {
        survey->matching = ascii_lower(c) == name[survey->column];
    } else if (c == ':') {
        survey->hops++;
        survey->matching = false;
    } else {
        survey->matching = c == ' ' || c == '\t';
    }
}

static void read_header(struct survey *survey, char c)
{
    bool ended = survey->cr;

    survey->cr = c == '\r';
    if (c == '\r' || (c == '\n' && !ended)) {
        end_line(survey);
        return;
    }
    if (c == '\n')
        return;
    if (survey->matching)
        read_name(survey, c);
    survey->eight_bit_header |= !ascii_is_octet(c);
    survey->column++;
}

void survey_read(struct survey *survey, const char *bytes, size_t length)
{
    size_t at = 0;

    for (; at < length && !survey->in_body; at++)
        read_header(survey, bytes[at]);
    survey->eight_bit |= survey->eight_bit_header;
    for (; at < length && !survey->eight_bit; at++)
        survey->eight_bit = !ascii_is_octet(bytes[at]);
}
