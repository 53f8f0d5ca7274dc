#include "oci/flags.h"

#include <stdlib.h>
#include <string.h>

static const struct flag *lookup(const struct flag_set *set, const char *name, size_t len)
{
	for (size_t i = 0; i < set->n; i++)
		if (strlen(set->flags[i].name) == len && !memcmp(set->flags[i].name, name, len))
			return &set->flags[i];
	return NULL;
}

/* The spellings of Go's strconv.ParseBool. */
static int parse_bool(const char *v, bool *out)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!strcmp(v, yes[i]) || !strcmp(v, no[i])) {
			*out = !strcmp(v, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_int(const char *v, int *out)
{
	char *end;

	errno = 0;
	long n = strtol(v, &end, 0);
	if (errno || end == v || *end || n != (int)n)
		return -EINVAL;
	*out = (int)n;
	return 0;
}

static bool is_choice(const char *choices, const char *v)
{
	size_t len = strlen(v);

	for (const char *p = choices; *p;) {
		size_t n = strcspn(p, "|");
		if (n == len && !memcmp(p, v, n))
			return true;
		p += n;
		p += *p == '|';
	}
	return false;
}

static int list_add(struct flag_list *l, const char *v)
{
	char **grown = reallocarray(l->v, l->n + 2, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	l->v = grown;
	l->v[l->n++] = (char *)v;
	l->v[l->n] = NULL;
	return 0;
}

static int set_value(const struct flag *f, const char *v, struct err *e)
{
	bool b = false;
	int i = 0, bad = 0;

	if (f->kind == FLAG_BOOL)
		bad = parse_bool(v, &b);
	else if (f->kind == FLAG_INT)
		bad = parse_int(v, &i);
	else if (f->choices && !is_choice(f->choices, v))
		return err_set(e, -EINVAL, "invalid value \"%s\" for flag -%s: must be one of %s",
			       v, f->name, f->choices);
	if (bad)
		return err_set(e, -EINVAL, "invalid %s value \"%s\" for flag -%s: parse error",
			       f->kind == FLAG_BOOL ? "boolean" : "integer", v, f->name);
	if (!f->value)
		return 0;
	switch (f->kind) {
	case FLAG_STRING:
		*(const char **)f->value = v;
		break;
	case FLAG_BOOL:
		*(bool *)f->value = b;
		break;
	case FLAG_INT:
		*(int *)f->value = i;
		break;
	case FLAG_LIST:
		return list_add(f->value, v);
	}
	return 0;
}

int flags_parse(const struct flag_set *set, int argc, char **argv, struct err *e,
		void (*no_effect)(const char *name))
{
	int i = 0;

	while (i < argc) {
		const char *arg = argv[i];
		if (arg[0] != '-' || !arg[1])
			break;
		i++;
		if (!strcmp(arg, "--"))
			break;
		const char *name = arg + 1 + (arg[1] == '-');
		size_t len = strcspn(name, "=");
		if (len == 0 || name[0] == '-')
			return err_set(e, -EINVAL, "bad flag syntax: %s", arg);
		const struct flag *f = lookup(set, name, len);
		if (!f && ((len == 1 && *name == 'h') || (len == 4 && !memcmp(name, "help", 4))))
			return err_set(e, -ECANCELED, "help");
		if (!f)
			return err_set(e, -EINVAL, "flag provided but not defined: -%.*s", (int)len,
				       name);
		const char *v = name[len] == '=' ? name + len + 1 : NULL;
		if (!v && f->kind == FLAG_BOOL)
			v = "true";
		if (!v) {
			if (i == argc)
				return err_set(e, -EINVAL, "flag needs an argument: -%s", f->name);
			v = argv[i++];
		}
		int err = set_value(f, v, e);
		if (err)
			return err;
		if (f->effect == FLAG_NO_EFFECT && no_effect)
			no_effect(f->name);
	}
	return i;
}

void flags_print(const struct flag_set *set, FILE *out)
{
	static const char *const type[] = {" string", "", " int", " value"};

	for (size_t i = 0; i < set->n; i++) {
		const struct flag *f = &set->flags[i];
		if (f->effect == FLAG_IGNORED)
			continue;
		fprintf(out, "  -%s%s\n    \t%s", f->name, type[f->kind], f->help);
		if (f->choices)
			fprintf(out, " (%s)", f->choices);
		if (f->effect == FLAG_NO_EFFECT)
			fprintf(out, " (no effect yet)");
		else if (f->kind == FLAG_STRING && f->value && **(const char *const *)f->value)
			fprintf(out, " (default \"%s\")", *(const char *const *)f->value);
		else if (f->kind == FLAG_BOOL && f->value && *(const bool *)f->value)
			fprintf(out, " (default true)");
		fputc('\n', out);
	}
}
