#!/bin/sh
# The OCI life cycle: create, start, state, kill, delete, and what is refused.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

b=$work/sleeper
bundle "$b" sleep 1000

created() {
	runsc create --bundle "$b" --pid-file "$work/pid" one </dev/null >/dev/null 2>&1 &&
		runsc state one | grep -q '"status": "created"' &&
		kill -0 "$(cat "$work/pid")" &&
		[ "$(runsc state one | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')" = "$(cat "$work/pid")" ]
}
check create_reports_created_and_pid created
check create_of_live_id_is_refused expect 128 "already exists" runsc create --bundle "$b" one
check start_runs_it sh -c "'$RUNSC' --root '$root' start one && '$RUNSC' --root '$root' state one | grep -q '\"status\": \"running\"'"
check start_of_running_is_refused expect 128 "running" runsc start one
check delete_of_running_is_refused expect 128 "running" runsc delete one
check list_shows_it expect 0 one runsc list
check list_quiet_is_ids_only sh -c "[ \"\$('$RUNSC' --root '$root' list -q)\" = one ]"
check list_json_is_json sh -c "'$RUNSC' --root '$root' list --format json | jq -e '.[0].id == \"one\"'"
check ps_lists_sleep expect 0 sleep runsc ps one
check events_stats_is_one_line sh -c "'$RUNSC' --root '$root' events --stats one | jq -e '.type == \"stats\" and .id == \"one\" and .data.pids.current == 1 and .data.memory.usage.usage > 0'"
check events_interval_is_checked expect 128 "no number of seconds" runsc events --interval 0 one
check ps_json_is_pids sh -c "'$RUNSC' --root '$root' ps --format json one | jq -e '. == [1]'"
check exec_runs_beside expect 0 "hello inside" runsc exec one echo hello inside
check exec_returns_exit_code expect 7 "" runsc exec one sh -c 'exit 7'
check exec_returns_signal expect 137 "" runsc exec one sh -c 'kill -9 $$'
check exec_env_and_cwd expect 0 "v=1 /tmp" runsc exec --env v=1 --cwd /tmp one sh -c 'echo "v=$v $(pwd)"'
check exec_user expect 0 "4000 4001" runsc exec --user 4000:4001 one sh -c 'echo "$(id -u) $(id -g)"'
check exec_missing_program_fails expect 128 "no-such-program" runsc exec one no-such-program
check exec_sees_the_same_processes expect 0 "sleep" runsc exec one cat /proc/1/comm
check debug_stats_counts_calls expect 0 "calls by a trap" runsc debug --stats one
check kill_ends_it runsc kill one KILL
check stopped_after_kill wait_for 5 sh -c "'$RUNSC' --root '$root' state one | grep -q '\"status\": \"stopped\"'"
check exec_in_stopped_is_refused expect 128 "stopped" runsc exec one true
check delete_stopped runsc delete one
check state_of_deleted_is_refused expect 128 "does not exist" runsc state one
check delete_force_of_missing_is_fine runsc delete --force one

check run_returns_exit_code expect 3 "" sh -c "'$RUNSC' --root '$root' do sh -c 'exit 3'"
check missing_bundle_is_refused expect 128 "No such file or directory" runsc create --bundle "$work/none" two
check bad_id_is_refused expect 128 "invalid" runsc create --bundle "$b" ../two
check unknown_command_is_named expect 128 "frobnicate" runsc frobnicate
check unknown_flag_is_named expect 128 "no-such-flag" runsc --no-such-flag list

mkdir "$work/bad"
echo '{"ociVersion": "1.0.0", "process": {"args": [7]}, "root": {"path": "/"}}' >"$work/bad/config.json"
check malformed_field_is_named expect 128 "process.args[0]" runsc create --bundle "$work/bad" bad
echo '{"ociVersion": "1.0.0", ' >"$work/bad/config.json"
check broken_json_is_one_line expect 128 "config.json" runsc create --bundle "$work/bad" bad
check nothing_is_left_of_failures sh -c "[ -z \"\$('$RUNSC' --root '$root' list -q)\" ]"

run_detached() {
	runsc run --detach --bundle "$b" --pid-file "$work/pid2" three </dev/null >/dev/null 2>&1 || return 1
	runsc wait three &
	sleep 0.3
	runsc kill three TERM || return 1
	wait $!
}
check wait_reports_signal expect 0 '"exitStatus":143' run_detached
check delete_after_wait runsc delete three

crash() {
	runsc --panic-log "$work/panic" run --detach --bundle "$b" --pid-file "$work/pid4" four \
		</dev/null >/dev/null 2>&1 || return 1
	kill -SEGV "$(cat "$work/pid4")"
	wait_for 5 sh -c "grep -q 'boot_run+.* at sentry/boot/boot.c:' '$work/panic'"
}
check crash_of_the_sentry_leaves_a_trace crash
check delete_after_crash runsc delete --force four

# signal_thread PID N: SIGSEGV to its Nth thread; 2: it has no such thread
signal_thread() {
	python3 - "$1" "$2" <<-END
		import ctypes, os, sys
		pid, n = int(sys.argv[1]), int(sys.argv[2])
		tids = sorted(map(int, os.listdir("/proc/%d/task" % pid)))
		if n >= len(tids): sys.exit(2)
		sys.exit(ctypes.CDLL(None).syscall(234, pid, tids[n], 11) != 0)
	END
}

# Whichever thread it is: a trace in the panic log, one line from the command, its exit status.
crash_any_thread() {
	n=0
	while :; do
		rm -f "$work/panic" "$work/pid5"
		timeout 10 "$RUNSC" --root "$root" --platform="$1" --panic-log "$work/panic" run --bundle "$b" \
			--pid-file "$work/pid5" five </dev/null >"$work/said" 2>&1 &
		wait_for 5 sh -c "'$RUNSC' --root '$root' state five | grep -q running" || return 1
		signal_thread "$(cat "$work/pid5")" $n
		sent=$?
		[ $sent = 2 ] && break
		[ $sent = 0 ] || return 1
		wait $!
		[ $? = 128 ] && [ "$(wc -l <"$work/said")" = 1 ] &&
			grep -q 'crashed, signal 11 .*see ' "$work/said" &&
			grep -q '^panic: signal 11' "$work/panic" && grep -q '^#0 ' "$work/panic" || {
			echo "thread $n:"; cat "$work/said" "$work/panic"; return 1
		}
		n=$((n + 1))
	done
	runsc delete --force five
	echo "$n threads"
	[ $n -ge 4 ]
}
check crash_of_any_thread_is_reported_systrap crash_any_thread systrap
check crash_of_any_thread_is_reported_ptrace crash_any_thread ptrace

check log_json_is_appended sh -c "echo first >'$work/log'; '$RUNSC' --root '$root' --log '$work/log' --log-format json state none; head -1 '$work/log' | grep -qx first && tail -1 '$work/log' | jq -e '.level == \"error\"'"
check version expect 0 "runsc version" runsc --version
check spec_writes_config sh -c "cd '$work' && mkdir s && cd s && '$RUNSC' spec && jq -e '.process.args' config.json"
