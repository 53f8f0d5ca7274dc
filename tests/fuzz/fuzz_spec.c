/* config.json, and the process object of `exec --process`, as spec_load reads them. */
#include <jansson.h>
#include <stdint.h>

#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
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
	spec_fini(&spec);
	spec_process_fini(&process);
	json_decref(j);
	return 0;
}
