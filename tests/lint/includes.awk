# Who may include whom.  One table: a folder, and the folders or headers it may include besides
# itself.  "lib" stands for sentry/lib and so on; deeper folders inherit the longest match.
BEGIN {
	base = "sentry/lib sentry/abi"
	allow["sentry/lib"] = "sentry/abi"
	allow["sentry/abi"] = "sentry/lib"
	allow["sentry/arch"] = base
	allow["sentry/auth"] = base
	allow["sentry/host"] = base
	allow["sentry/time"] = base " sentry/kernel sentry/host/crash.h"
	allow["platform"] = base " sentry/arch sentry/host"
	allow["gofer"] = base " sentry/host"
	allow["sentry/vfs"] = base " sentry/auth sentry/time sentry/mm/uaccess.h"
	allow["sentry/mm"] = base " sentry/auth sentry/time sentry/vfs sentry/arch sentry/host platform/platform.h"
	fs = base " sentry/auth sentry/time sentry/host sentry/vfs sentry/mm"
	allow["sentry/fs"] = fs " sentry/fs/synth"
	allow["sentry/fs/gofer"] = fs " gofer/proto.h"
	allow["sentry/fs/overlay"] = fs " sentry/fs/tmpfs" # its upper layer in memory
	allow["sentry/fs/dev"] = fs " sentry/fs/tmpfs"
	allow["sentry/fs/proc"] = fs " sentry/fs/synth sentry/fs/notify sentry/kernel sentry/net/net_info.h"
	allow["sentry/fs/notify"] = fs " sentry/kernel"
	allow["sentry/fs/cgroup"] = fs " sentry/fs/synth sentry/kernel"
	allow["sentry/fs/erofs"] = fs " sentry/fs/tmpfs"
	allow["sentry/fs/fuse"] = fs " sentry/fs/dev sentry/fs/tmpfs sentry/kernel"
	allow["sentry/fs/mqueue"] = fs " sentry/kernel"
	allow["sentry/fs/devpts"] = fs " sentry/fs/synth sentry/fs/dev sentry/kernel"
	allow["sentry/fs/host"] = fs " sentry/kernel"
	allow["sentry/fs/signalfd"] = fs " sentry/kernel"
	allow["sentry/aio"] = fs " sentry/fs/eventfd sentry/kernel"
	allow["sentry/net"] = base " sentry/auth sentry/time sentry/host sentry/vfs sentry/mm/uaccess.h"
	allow["sentry/loader"] = base " sentry/mm sentry/vfs sentry/arch sentry/auth sentry/kernel platform/platform.h"
	below = base " sentry/arch sentry/auth sentry/host sentry/time sentry/vfs sentry/mm sentry/loader platform/platform.h"
	allow["sentry/kernel"] = below " syscalls/syscalls.h"
	allow["syscalls"] = "sentry platform/platform.h"
	allow["sentry/boot"] = "sentry platform syscalls/syscalls.h gofer/gofer.h"
	allow["oci"] = "sentry/lib sentry/host sentry/boot/boot.h gofer/gofer.h syscalls/syscalls.h platform/platform.h"
	allow["tests"] = "sentry platform gofer syscalls oci"
	allow["bench"] = "tests"
}

function folder_of(path,    n, p, i, best) {
	n = split(path, p, "/")
	best = ""
	prefix = ""
	for (i = 1; i < n; i++) {
		prefix = prefix (i > 1 ? "/" : "") p[i]
		if (prefix in allow)
			best = prefix
	}
	return best
}

/^#[ \t]*include[ \t]+"/ {
	target = $0
	sub(/^[^"]*"/, "", target)
	sub(/".*/, "", target)
	if (target !~ /\//)
		next
	own = folder_of(FILENAME)
	if (own == "" || index(target, own "/") == 1)
		next
	n = split(allow[own], ok, " ")
	for (i = 1; i <= n; i++)
		if (target == ok[i] || index(target, ok[i] "/") == 1)
			next
	printf "%s:%d: %s may not include %s\n", FILENAME, FNR, own, target
}
