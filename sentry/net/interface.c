#include "sentry/net/interface.h"

#include <errno.h>
#include <linux/capability.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/auth/net_ns.h"
#include "sentry/lib/compiler.h"
#include "sentry/mm/uaccess.h"
#include "sentry/net/socket.h"

#define LOOPBACK_NETMASK 0xff000000u
#define QUEUE_LEN 1000

static void put_v4(struct sockaddr *to, uint32_t address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

	memcpy(to, &in, sizeof(in));
}

/* The list of interfaces that have an address of IPv4. */
static long list(struct ns *net, struct task *t, uaddr_t arg)
{
	struct ifreq lo = {.ifr_name = LOOPBACK_NAME};
	struct ifconf conf;

	if (copy_in_val(task_umem(t), &conf, arg))
		return -EFAULT;
	put_v4(&lo.ifr_addr, INADDR_LOOPBACK);
	int room = conf.ifc_len;
	bool there = !net || net_ns_of(net)->lo_seen;
	conf.ifc_len = there ? sizeof(lo) : 0;
	if (conf.ifc_buf && there) {
		if (room < (int)sizeof(lo))
			conf.ifc_len = 0;
		else if (copy_out_val(task_umem(t), UADDR((uintptr_t)conf.ifc_buf), &lo))
			return -EFAULT;
	}
	return copy_out_val(task_umem(t), arg, &conf);
}

/* What of lo the request asks for; -ENOTTY. */
static long fill(struct ns *net, struct ifreq *r, unsigned cmd)
{
	bool up = !net || net_ns_of(net)->lo_up;

	switch (cmd) {
	case SIOCGIFNAME:
		if (r->ifr_ifindex != LOOPBACK_INDEX)
			return -ENODEV;
		strcpy(r->ifr_name, LOOPBACK_NAME);
		return 0;
	case SIOCGIFINDEX:
		r->ifr_ifindex = LOOPBACK_INDEX;
		return 0;
	case SIOCGIFFLAGS:
		r->ifr_flags = (short)(IFF_LOOPBACK | (up ? IFF_UP | IFF_RUNNING : 0));
		return 0;
	case SIOCSIFFLAGS:
		if (!socket_current_capable(net, CAP_NET_ADMIN))
			return -EPERM;
		if (net)
			net_ns_set_lo(net_ns_of(net), r->ifr_flags & IFF_UP);
		return 0;
	case SIOCGIFADDR:
		put_v4(&r->ifr_addr, INADDR_LOOPBACK);
		return 0;
	case SIOCGIFDSTADDR:
		put_v4(&r->ifr_dstaddr, INADDR_LOOPBACK);
		return 0;
	case SIOCGIFBRDADDR:
		put_v4(&r->ifr_broadaddr, INADDR_ANY);
		return 0;
	case SIOCGIFNETMASK:
		put_v4(&r->ifr_netmask, LOOPBACK_NETMASK);
		return 0;
	case SIOCGIFMETRIC:
		r->ifr_metric = 0;
		return 0;
	case SIOCGIFMTU:
		r->ifr_mtu = LOOPBACK_MTU;
		return 0;
	case SIOCGIFHWADDR:
		memset(&r->ifr_hwaddr, 0, sizeof(r->ifr_hwaddr));
		r->ifr_hwaddr.sa_family = ARPHRD_LOOPBACK;
		return 0;
	case SIOCGIFTXQLEN:
		r->ifr_qlen = QUEUE_LEN;
		return 0;
	}
	return -ENOTTY;
}

/* Requests about IPv4's addresses, of which lo has none before it is up for the first time. */
static bool asks_address(unsigned cmd)
{
	return cmd == SIOCGIFADDR || cmd == SIOCGIFDSTADDR || cmd == SIOCGIFBRDADDR ||
	       cmd == SIOCGIFNETMASK;
}

static bool known(unsigned cmd)
{
	struct ifreq r = {.ifr_ifindex = LOOPBACK_INDEX};

	return cmd == SIOCSIFFLAGS || fill(NULL, &r, cmd) != -ENOTTY;
}

long interface_ioctl(struct ns *net, struct task *t, unsigned cmd, uint64_t arg)
{
	struct ifreq r;

	if (cmd == SIOCGIFCONF)
		return list(net, t, UADDR(arg));
	if (!known(cmd))
		return -ENOTTY;
	if (copy_in_val(task_umem(t), &r, UADDR(arg)))
		return -EFAULT;
	r.ifr_name[IFNAMSIZ - 1] = 0;
	if (cmd != SIOCGIFNAME && strcmp(r.ifr_name, LOOPBACK_NAME))
		return -ENODEV;
	if (asks_address(cmd) && net && !net_ns_of(net)->lo_seen)
		return -EADDRNOTAVAIL;
	long err = fill(net, &r, cmd);
	return err || cmd == SIOCSIFFLAGS ? err : copy_out_val(task_umem(t), UADDR(arg), &r);
}
