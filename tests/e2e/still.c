/* An application of one program, for an image without a shell: `still freeze`, `still thaw`, `still ask`; without a word it runs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *state = "/state/frozen";

int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "freeze")) {
        FILE *made = fopen(state, "w");
        return made ? fclose(made) : 1;
    }
    if (count > 1 && !strcmp(words[1], "thaw")) {
        unlink(state);
        return 0;
    }
    if (count > 1 && !strcmp(words[1], "ask"))
        return access(state, F_OK) ? 1 : 0;
    for (;;)
        pause();
}
