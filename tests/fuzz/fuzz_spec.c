/*
 * config.json, and the process object of `exec --process`, as spec_load reads them.  A spec's
 * memory belongs to the process (oci/spec.h), so leaks are not looked for.
 */
#include <jansson.h>
#include <stdint.h>

#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	struct spec_process process = {0};
	struct spec spec = {0};
	struct err e = {""};

	if (!j)
		return 0;
	int as_spec = spec_parse(j, "config.json", &spec, &e);
	int as_process = spec_parse_process(j, "process.json", &process, &e);
	if ((as_spec || as_process) && !*e.msg)
		__builtin_trap(); /* refused without a word */
	json_decref(j);
	return 0;
}
