#include "sentry/net/interface.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/lib/compiler.h"
#include "sentry/mm/uaccess.h"

#define LOOPBACK_NETMASK 0xff000000u
#define QUEUE_LEN 1000

static void put_v4(struct sockaddr *to, uint32_t address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

	memcpy(to, &in, sizeof(in));
}

/* The list of interfaces that have an address of IPv4. */
static long list(struct task *t, uaddr_t arg)
{
	struct ifreq lo = {.ifr_name = LOOPBACK_NAME};
	struct ifconf conf;

	if (copy_in_val(task_umem(t), &conf, arg))
		return -EFAULT;
	put_v4(&lo.ifr_addr, INADDR_LOOPBACK);
	int room = conf.ifc_len;
	conf.ifc_len = sizeof(lo);
	if (conf.ifc_buf) {
		if (room < (int)sizeof(lo))
			conf.ifc_len = 0;
		else if (copy_out_val(task_umem(t), UADDR((uintptr_t)conf.ifc_buf), &lo))
			return -EFAULT;
	}
	return copy_out_val(task_umem(t), arg, &conf);
}

/* What of lo the request asks for; -ENOTTY. */
static long fill(struct ifreq *r, unsigned cmd)
{
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
		r->ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
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

long interface_ioctl(struct task *t, unsigned cmd, uint64_t arg)
{
	struct ifreq r = {0};

	if (cmd == SIOCGIFCONF)
		return list(t, UADDR(arg));
	if (fill(&r, cmd) == -ENOTTY)
		return -ENOTTY;
	if (copy_in_val(task_umem(t), &r, UADDR(arg)))
		return -EFAULT;
	r.ifr_name[IFNAMSIZ - 1] = 0;
	if (cmd != SIOCGIFNAME && strcmp(r.ifr_name, LOOPBACK_NAME))
		return -ENODEV;
	long err = fill(&r, cmd);
	return err ? err : copy_out_val(task_umem(t), UADDR(arg), &r);
}
