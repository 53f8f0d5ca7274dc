#include "oci/process.h"

#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "oci/client.h"
#include "sentry/lib/log.h"

static const char *const cap_names[] = {
	[CAP_CHOWN] = "CHOWN",
	[CAP_DAC_OVERRIDE] = "DAC_OVERRIDE",
	[CAP_DAC_READ_SEARCH] = "DAC_READ_SEARCH",
	[CAP_FOWNER] = "FOWNER",
	[CAP_FSETID] = "FSETID",
	[CAP_KILL] = "KILL",
	[CAP_SETGID] = "SETGID",
	[CAP_SETUID] = "SETUID",
	[CAP_SETPCAP] = "SETPCAP",
	[CAP_LINUX_IMMUTABLE] = "LINUX_IMMUTABLE",
	[CAP_NET_BIND_SERVICE] = "NET_BIND_SERVICE",
	[CAP_NET_BROADCAST] = "NET_BROADCAST",
	[CAP_NET_ADMIN] = "NET_ADMIN",
	[CAP_NET_RAW] = "NET_RAW",
	[CAP_IPC_LOCK] = "IPC_LOCK",
	[CAP_IPC_OWNER] = "IPC_OWNER",
	[CAP_SYS_MODULE] = "SYS_MODULE",
	[CAP_SYS_RAWIO] = "SYS_RAWIO",
	[CAP_SYS_CHROOT] = "SYS_CHROOT",
	[CAP_SYS_PTRACE] = "SYS_PTRACE",
	[CAP_SYS_PACCT] = "SYS_PACCT",
	[CAP_SYS_ADMIN] = "SYS_ADMIN",
	[CAP_SYS_BOOT] = "SYS_BOOT",
	[CAP_SYS_NICE] = "SYS_NICE",
	[CAP_SYS_RESOURCE] = "SYS_RESOURCE",
	[CAP_SYS_TIME] = "SYS_TIME",
	[CAP_SYS_TTY_CONFIG] = "SYS_TTY_CONFIG",
	[CAP_MKNOD] = "MKNOD",
	[CAP_LEASE] = "LEASE",
	[CAP_AUDIT_WRITE] = "AUDIT_WRITE",
	[CAP_AUDIT_CONTROL] = "AUDIT_CONTROL",
	[CAP_SETFCAP] = "SETFCAP",
	[CAP_MAC_OVERRIDE] = "MAC_OVERRIDE",
	[CAP_MAC_ADMIN] = "MAC_ADMIN",
	[CAP_SYSLOG] = "SYSLOG",
	[CAP_WAKE_ALARM] = "WAKE_ALARM",
	[CAP_BLOCK_SUSPEND] = "BLOCK_SUSPEND",
	[CAP_AUDIT_READ] = "AUDIT_READ",
	[CAP_PERFMON] = "PERFMON",
	[CAP_BPF] = "BPF",
	[CAP_CHECKPOINT_RESTORE] = "CHECKPOINT_RESTORE",
};

static const struct {
	const char *name;
	int resource;
} rlimit_names[] = {
	{"RLIMIT_AS", RLIMIT_AS},
	{"RLIMIT_CORE", RLIMIT_CORE},
	{"RLIMIT_CPU", RLIMIT_CPU},
	{"RLIMIT_DATA", RLIMIT_DATA},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE},
	{"RLIMIT_LOCKS", RLIMIT_LOCKS},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
	{"RLIMIT_NICE", RLIMIT_NICE},
	{"RLIMIT_NOFILE", RLIMIT_NOFILE},
	{"RLIMIT_NPROC", RLIMIT_NPROC},
	{"RLIMIT_RSS", RLIMIT_RSS},
	{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", RLIMIT_RTTIME},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
	{"RLIMIT_STACK", RLIMIT_STACK},
};

int capability_lookup(const char *name)
{
	if (!strncasecmp(name, "CAP_", 4))
		name += 4;
	for (int i = 0; i < (int)ARRAY_SIZE(cap_names); i++)
		if (!strcasecmp(name, cap_names[i]))
			return i;
	return -1;
}

const char *capability_name(int cap)
{
	return cap >= 0 && cap < (int)ARRAY_SIZE(cap_names) ? cap_names[cap] : NULL;
}

/* Unknown names are newer kernels': ignored with a warning, as the specification wants. */
static uint64_t cap_set(char **names)
{
	uint64_t set = 0;

	for (; names && *names; names++) {
		int c = capability_lookup(*names);
		if (c < 0)
			log_warn("unknown capability \"%s\" ignored", *names);
		else
			set |= 1ULL << c;
	}
	return set;
}

static size_t count(char **v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

static int set_rlimits(const struct spec_process *p, const char *file, struct boot_process *out,
		       struct err *e)
{
	out->rlimits = calloc(p->rlimits.n + 1, sizeof(*out->rlimits));
	if (!out->rlimits)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->rlimits.n; i++) {
		const struct spec_rlimit *r = &p->rlimits.v[i];
		size_t k = 0;
		while (k < ARRAY_SIZE(rlimit_names) && strcmp(rlimit_names[k].name, r->type) != 0)
			k++;
		if (k == ARRAY_SIZE(rlimit_names))
			return err_set(e, -EINVAL, "%s: rlimits[%zu].type: unknown \"%s\"", file, i,
				       r->type);
		for (size_t n = 0; n < out->nrlimits; n++)
			if (out->rlimits[n].resource == rlimit_names[k].resource)
				return err_set(e, -EINVAL, "%s: rlimits[%zu].type: %s given twice",
					       file, i, r->type);
		if (r->soft > r->hard)
			return err_set(e, -EINVAL, "%s: rlimits[%zu].soft: above the hard limit",
				       file, i);
		out->rlimits[out->nrlimits++] =
			(struct boot_rlimit){rlimit_names[k].resource, r->soft, r->hard};
	}
	return 0;
}

int process_exec(int control, const struct boot_process *p, const int *stdio, int *pid,
		 struct err *e)
{
	json_auto_t *reply = NULL;
	char *text = boot_process_encode(p);
	json_t *process = text ? json_loads(text, 0, NULL) : NULL;

	free(text);
	if (!process)
		return err_set(e, -EINVAL, "cannot describe the process");
	int err = client_call(control, json_pack("{s:s, s:o}", "cmd", "exec", "process", process),
			      stdio, 3, &reply, e);
	if (!err && json_unpack(reply, "{s:i}", "pid", pid))
		err = err_set(e, -EPROTO, "the sandbox sent no process number");
	return err;
}

void process_fini(struct boot_process *p)
{
	free(p->rlimits);
	p->rlimits = NULL;
	p->nrlimits = 0;
}

int process_from_spec(const struct spec_process *p, const char *file, struct boot_process *out,
		      struct err *e)
{
	static char *no_strings[] = {NULL};

	out->argv = p->args;
	out->argc = count(p->args);
	out->envp = p->env ? p->env : no_strings;
	out->envc = count(p->env);
	out->cwd = p->cwd;
	out->uid = p->uid;
	out->gid = p->gid;
	out->umask = p->umask ? *p->umask & 0777 : 022;
	out->groups = p->additional_gids.v;
	out->ngroups = p->additional_gids.n;
	out->no_new_privs = p->no_new_privileges;
	out->oom_score_adj = p->oom_score_adj ? *p->oom_score_adj : 0;
	out->terminal = p->terminal;
	if (p->caps) {
		out->cap_bounding = cap_set(p->caps->bounding);
		out->cap_effective = cap_set(p->caps->effective);
		out->cap_inheritable = cap_set(p->caps->inheritable);
		out->cap_permitted = cap_set(p->caps->permitted);
		out->cap_ambient = cap_set(p->caps->ambient);
	}
	return set_rlimits(p, file, out, e);
}
