/* /proc/sys/net: of the network namespace of who asks.  tcp(7), ip(7), listen(2), unix(7). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "sentry/auth/net_ns.h"
#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ns/ns_set.h"

static _Atomic int *current_limits(void)
{
	const struct task *t = task_current();

	return net_limits(t && t->ns ? t->ns->of[NS_NET] : NULL);
}

struct bounded {
	enum net_limit limit;
	int least, most;
};

static int show_one(struct text *out, void *arg)
{
	const struct bounded *b = arg;

	text_printf(out, "%d\n", current_limits()[b->limit]);
	return 0;
}

static ssize_t write_one(struct file *f, const char *buf, size_t n, void *arg)
{
	const struct bounded *b = arg;
	int value, err = proc_parse_number(buf, b->least, b->most, &value);

	(void)f;
	if (err)
		return err;
	current_limits()[b->limit] = value;
	return (ssize_t)n;
}

static int show_ports(struct text *out, void *arg)
{
	const _Atomic int *limits = current_limits();

	(void)arg;
	text_printf(out, "%d\t%d\n", limits[NET_PORT_FIRST], limits[NET_PORT_LAST]);
	return 0;
}

static ssize_t write_ports(struct file *f, const char *buf, size_t n, void *arg)
{
	_Atomic int *limits = current_limits();
	int first, last;

	(void)f, (void)arg;
	if (sscanf(buf, "%d %d", &first, &last) != 2 || first < 1 || last > 65535 || first > last ||
	    first < limits[NET_UNPRIVILEGED_PORT])
		return -EINVAL;
	limits[NET_PORT_FIRST] = first;
	limits[NET_PORT_LAST] = last;
	return (ssize_t)n;
}

static const struct synth_file_ops one = {.show = show_one, .write = write_one};
static const struct synth_file_ops ports = {.show = show_ports, .write = write_ports};

#define ONE(limit, least, most)            \
	(struct bounded[])                 \
	{                                  \
		{                          \
			limit, least, most \
		}                          \
	}

static const struct synth_table core[] = {
	{"somaxconn", 0644, &one, ONE(NET_SOMAXCONN, 0, INT_MAX)},
	{NULL, 0, NULL, NULL},
};
static const struct synth_table unix_table[] = {
	{"max_dgram_qlen", 0644, &one, ONE(NET_DGRAM_QLEN, 0, INT_MAX)},
	{NULL, 0, NULL, NULL},
};
static const struct synth_table ipv4[] = {
	{"ip_local_port_range", 0644, &ports, NULL},
	{"ip_unprivileged_port_start", 0644, &one, ONE(NET_UNPRIVILEGED_PORT, 0, 65535)},
	{NULL, 0, NULL, NULL},
};
static const struct proc_constant core_constants[] = {
	{"rmem_default", "212992"}, {"rmem_max", "212992"}, {"wmem_default", "212992"},
	{"wmem_max", "212992"},	    {NULL, NULL},
};
/* What the stack does and no one can change. */
static const struct proc_constant ipv4_constants[] = {
	{"ip_default_ttl", "64"},
	{"ip_forward", "0"},
	{"ip_nonlocal_bind", "0"},
	{"tcp_available_congestion_control", "cubic"},
	{"tcp_congestion_control", "cubic"},
	{NULL, NULL},
};
static const struct proc_constant ipv6_constants[] = {
	{"bindv6only", "0"}, {"ip_nonlocal_bind", "0"}, {NULL, NULL}};
static const struct proc_constant no_constants[] = {{NULL, NULL}};

int proc_add_sys_net(struct inode *sys)
{
	struct inode *net, *dir;
	int err;

	if ((err = proc_add_constants(sys, "net", no_constants, &net)) ||
	    (err = proc_add_constants(net, "core", core_constants, &dir)) ||
	    (err = synth_add_table(dir, core)) ||
	    (err = proc_add_constants(net, "unix", no_constants, &dir)) ||
	    (err = synth_add_table(dir, unix_table)) ||
	    (err = proc_add_constants(net, "ipv4", ipv4_constants, &dir)) ||
	    (err = synth_add_table(dir, ipv4)))
		return err;
	return proc_add_constants(net, "ipv6", ipv6_constants, &dir);
}
