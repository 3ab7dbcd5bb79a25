/* Stands for Deno on Windows: prints what it is given, a line each, and exits with STAND_IN_EXIT. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *variable(const char *name) {
  const char *value = getenv(name);
  return value == NULL ? "unset" : value;
}

int main(int count, char **words) {
  for (int i = 1; i < count; i++)
    if (strstr(words[i], "new_enough.ts") != NULL) return getenv("STAND_IN_OLD") == NULL ? 0 : 1;
  if (count == 2 && strcmp(words[1], "--version") == 0) {
    puts("deno 0.0.0");
    return 0;
  }
  for (int i = 1; i < count; i++) printf("[%s]\n", words[i]);
  printf("DENO_DIR=%s\n", variable("DENO_DIR"));
  printf("DENO_TLS_CA_STORE=%s\n", variable("DENO_TLS_CA_STORE"));
  return getenv("STAND_IN_EXIT") == NULL ? 0 : atoi(getenv("STAND_IN_EXIT"));
}
