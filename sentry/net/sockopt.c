/* The options of level SOL_SOCKET.  Source: socket(7), unix(7). */
#include <errno.h>
#include <string.h>

#include "sentry/net/socket.h"
#include "sentry/time/ktimer.h"

#include <linux/capability.h>

/* net.core.wmem_max; and what CAP_NET_ADMIN may ask for, which Linux does not bound. */
#define BUF_MAX 212992u
#define BUF_FORCE_MAX (4u << 20)
#define SNDBUF_MIN 4608u
#define RCVBUF_MIN 2304u

static int set_timeout(_Atomic int64_t *to, const void *v, uint32_t len)
{
	struct timeval tv;

	if (len < sizeof(tv))
		return -EINVAL;
	memcpy(&tv, v, sizeof(tv));
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return -EDOM;
	if (tv.tv_sec < 0)
		*to = 0;
	else if (tv.tv_sec == 0 && tv.tv_usec == 0)
		*to = TIME_NEVER;
	else if (tv.tv_sec >= INT64_MAX / NSEC_PER_SEC - 1)
		*to = TIME_NEVER;
	else
		*to = tv.tv_sec * NSEC_PER_SEC + tv.tv_usec * 1000;
	return 0;
}

static int set_buffer(_Atomic uint32_t *to, int v, uint32_t max, uint32_t min)
{
	uint32_t want = MIN((uint32_t)MAX(v, 0), max) * 2;

	*to = MAX(want, min);
	return 0;
}

static int set_linger(struct socket *s, const void *v, uint32_t len)
{
	struct linger l;

	if (len < sizeof(l))
		return -EINVAL;
	memcpy(&l, v, sizeof(l));
	s->linger = l.l_onoff ? (int64_t)(unsigned)l.l_linger : -1;
	return 0;
}

bool socket_net_capable(const struct socket *s, const struct cred *c, int cap)
{
	return cred_ns_capable(c, s->net ? s->net->owner : &user_ns_top, cap);
}

static int set_int_option(struct socket *s, int name, int v, const struct cred *c)
{
	switch (name) {
	case SO_REUSEADDR:
		s->reuseaddr = v != 0;
		return 0;
	case SO_REUSEPORT:
		s->reuseport = v != 0;
		return 0;
	case SO_KEEPALIVE:
		s->keepalive = v != 0;
		return 0;
	case SO_BROADCAST:
		s->broadcast = v != 0;
		return 0;
	case SO_OOBINLINE:
		s->oobinline = v != 0;
		return 0;
	case SO_TIMESTAMP:
	case SO_TIMESTAMPNS:
		s->timestamp = v && name == SO_TIMESTAMP;
		s->timestamp_ns = v && name == SO_TIMESTAMPNS;
		return 0;
	case SO_PASSCRED:
		s->passcred = v != 0;
		return 0;
	case SO_PASSSEC:
		s->passsec = v != 0;
		return 0;
	case SO_DONTROUTE:
	case SO_NO_CHECK:
		return 0;
	case SO_SNDBUF:
		return set_buffer(&s->sndbuf, v, BUF_MAX, SNDBUF_MIN);
	case SO_RCVBUF:
		return set_buffer(&s->rcvbuf, v, BUF_MAX, RCVBUF_MIN);
	case SO_SNDBUFFORCE:
		if (!socket_net_capable(s, c, CAP_NET_ADMIN))
			return -EPERM;
		return set_buffer(&s->sndbuf, v, BUF_FORCE_MAX, SNDBUF_MIN);
	case SO_RCVBUFFORCE:
		if (!socket_net_capable(s, c, CAP_NET_ADMIN))
			return -EPERM;
		return set_buffer(&s->rcvbuf, v, BUF_FORCE_MAX, RCVBUF_MIN);
	case SO_RCVLOWAT:
		s->rcvlowat = v < 0 ? INT32_MAX : v ? v : 1;
		return 0;
	case SO_PRIORITY:
		if ((v < 0 || v > 6) && !socket_net_capable(s, c, CAP_NET_ADMIN))
			return -EPERM;
		s->priority = v;
		return 0;
	case SO_MARK:
		if (!socket_net_capable(s, c, CAP_NET_ADMIN))
			return -EPERM;
		s->mark = v;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

int socket_setsockopt(struct socket *s, int level, int name, const void *v, uint32_t len,
		      const struct cred *c)
{
	int value;

	if (level != SOL_SOCKET)
		return s->ops->setsockopt ? s->ops->setsockopt(s, level, name, v, len)
					  : -ENOPROTOOPT;
	if (len < sizeof(value))
		return -EINVAL;
	switch (name) {
	case SO_SNDTIMEO_OLD:
	case SO_SNDTIMEO_NEW:
		return set_timeout(&s->sndtimeo, v, len);
	case SO_RCVTIMEO_OLD:
	case SO_RCVTIMEO_NEW:
		return set_timeout(&s->rcvtimeo, v, len);
	case SO_LINGER:
		return set_linger(s, v, len);
	default:
		memcpy(&value, v, sizeof(value));
		return set_int_option(s, name, value, c);
	}
}

/* ---- reading ---- */

int socket_option_give(void *v, uint32_t *len, const void *src, uint32_t n)
{
	*len = MIN(*len, n);
	memcpy(v, src, *len);
	return 0;
}

static int give_timeout(void *v, uint32_t *len, int64_t ns)
{
	struct timeval tv = {0, 0};

	if (ns != TIME_NEVER) {
		tv.tv_sec = ns / NSEC_PER_SEC;
		tv.tv_usec = ns % NSEC_PER_SEC / 1000;
	}
	return socket_option_give(v, len, &tv, sizeof(tv));
}

static int give_peercred(struct socket *s, const struct user_ns *u, void *v, uint32_t *len)
{
	struct sock_ucred peer = {.pid = 0, .uid = -1, .gid = -1};

	if (s->peer_cred) {
		peer.pid = socket_current_pid(s->peer_pid);
		peer.uid = uid_show(u, s->peer_cred->euid);
		peer.gid = gid_show(u, s->peer_cred->egid);
	}
	return socket_option_give(v, len, &peer, sizeof(peer));
}

static int give_peergroups(struct socket *s, const struct user_ns *u, void *v, uint32_t *len)
{
	if (!s->peer_cred)
		return -ENODATA;
	uint32_t n = s->peer_cred->ngroups * sizeof(uint32_t);
	if (*len < n) {
		*len = n;
		return -ERANGE;
	}
	*len = n;
	for (size_t i = 0; i < s->peer_cred->ngroups; i++)
		((uint32_t *)v)[i] = gid_show(u, s->peer_cred->groups[i]);
	return 0;
}

static int int_option(struct socket *s, int name, int *v)
{
	switch (name) {
	case SO_TYPE:
		*v = s->type;
		return 0;
	case SO_DOMAIN:
		*v = s->family;
		return 0;
	case SO_PROTOCOL:
		*v = s->protocol;
		return 0;
	case SO_ERROR:
		*v = atomic_exchange(&s->error, 0);
		return 0;
	case SO_ACCEPTCONN:
		*v = s->listening;
		return 0;
	case SO_SNDBUF:
		*v = s->sndbuf;
		return 0;
	case SO_RCVBUF:
		*v = s->rcvbuf;
		return 0;
	case SO_REUSEADDR:
		*v = s->reuseaddr;
		return 0;
	case SO_REUSEPORT:
		*v = s->reuseport;
		return 0;
	case SO_KEEPALIVE:
		*v = s->keepalive;
		return 0;
	case SO_BROADCAST:
		*v = s->broadcast;
		return 0;
	case SO_OOBINLINE:
		*v = s->oobinline;
		return 0;
	case SO_TIMESTAMP:
		*v = s->timestamp;
		return 0;
	case SO_TIMESTAMPNS:
		*v = s->timestamp_ns;
		return 0;
	case SO_PASSCRED:
		*v = s->passcred;
		return 0;
	case SO_PASSSEC:
		*v = s->passsec;
		return 0;
	case SO_RCVLOWAT:
		*v = s->rcvlowat;
		return 0;
	case SO_SNDLOWAT:
		*v = 1;
		return 0;
	case SO_PRIORITY:
		*v = s->priority;
		return 0;
	case SO_MARK:
		*v = s->mark;
		return 0;
	case SO_DONTROUTE:
	case SO_NO_CHECK:
		*v = 0;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

int socket_getsockopt(struct socket *s, int level, int name, const struct user_ns *u, void *v,
		      uint32_t *len)
{
	if (level != SOL_SOCKET)
		return s->ops->getsockopt ? s->ops->getsockopt(s, level, name, v, len)
					  : -EOPNOTSUPP;
	switch (name) {
	case SO_SNDTIMEO_OLD:
	case SO_SNDTIMEO_NEW:
		return give_timeout(v, len, s->sndtimeo);
	case SO_RCVTIMEO_OLD:
	case SO_RCVTIMEO_NEW:
		return give_timeout(v, len, s->rcvtimeo);
	case SO_LINGER: {
		int64_t secs = s->linger;
		struct linger l = {.l_onoff = secs >= 0, .l_linger = secs >= 0 ? (int)secs : 0};
		return socket_option_give(v, len, &l, sizeof(l));
	}
	case SO_PEERCRED:
		return give_peercred(s, u, v, len);
	case SO_PEERGROUPS:
		return give_peergroups(s, u, v, len);
	default: {
		int value;
		int err = int_option(s, name, &value);
		return err ? err : socket_option_give(v, len, &value, sizeof(value));
	}
	}
}
