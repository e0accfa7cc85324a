/* A question and its answer: see the header. */
#include "queue/tool/ask.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

bool ask_possible(void)
{
    return isatty(STDIN_FILENO);
}

bool ask(const char *question)
{
    char answer[80];

    (void)fflush(stdout);
    fprintf(stderr, "%s [y/N] ", question);
    (void)fflush(stderr);
    if (fgets(answer, sizeof answer, stdin) == NULL)
        return false;
    answer[strcspn(answer, "\n")] = '\0';
    return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}
