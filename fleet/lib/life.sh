# SPDX-License-Identifier: Apache-2.0
# A machine's start, its end, and how it is in between.
# shellcheck shell=sh disable=SC2154

# ---- how it is ----

# Its unit runs, and its API did not say that its guest lives.
monitor_running() {
	said=$(alive 2>&1)
	case $?:$said in
	0:*) return "$OCF_SUCCESS" ;;
	3:*)
		ocf_exit_reason "%s" "$unit: ${said#duet: error: }; it is stopped and started anew if Pacemaker may"
		return "$OCF_ERR_GENERIC"
		;;
	*"is on its way here"* | *"has ended"*) return "$OCF_NOT_RUNNING" ;;
	esac
	ocf_exit_reason "%s" "$unit runs, but does not answer: ${said#duet: error: }; journalctl -u $unit"
	return "$OCF_ERR_GENERIC"
}

monitor_over() {
	if [ "$1" = failed ] && ! ocf_is_probe; then
		words=$(last_words)
		ocf_log err "$unit has failed: ${words:-no reason said}; journalctl -u $unit"
	fi
	return "$OCF_NOT_RUNNING"
}

monitor() {
	check_name
	state=$(unit_state)
	case $state in
	active) monitor_running ;;
	inactive | failed) monitor_over "$state" ;;
	'')
		# Where there is no systemd or no unit no machine of ours runs.
		[ -S "$socket" ] || return "$OCF_NOT_RUNNING"
		ocf_exit_reason "%s" "systemctl does not tell how $unit is"
		return "$OCF_ERR_GENERIC"
		;;
	*)
		# It takes its time to begin, or to end.
		alive >/dev/null 2>&1 && return "$OCF_SUCCESS"
		ocf_log warn "$unit is $state"
		return "$OCF_ERR_GENERIC"
		;;
	esac
}

# ---- its start ----

# Nobody else has its socket.
check_nobody_runs_it() {
	duet ctl "$socket" status >/dev/null 2>&1 || return 0
	refuse "$OCF_ERR_GENERIC" "$socket: a machine answers there that is not of $unit; end it: Pacemaker shall be the only one to run it"
}

# Why it did not start, and whether another node may.
refuse_start() {
	words=${words:-"it has ended at once; journalctl -u $unit"}
	systemctl reset-failed -- "$unit" 2>/dev/null
	forget
	case $words in
	*": busy: "*) refuse "$OCF_ERR_GENERIC" "$name runs elsewhere, or something has its disk open: $words" ;;
	*[Nn]"o such file"* | *[Nn]"o such device"* | *"/dev/kvm"*) refuse "$OCF_ERR_INSTALLED" "$words; is its storage there on this node?" ;;
	esac
	refuse "$OCF_ERR_GENERIC" "$words"
}

runs_or_is_over() {
	duet ctl "$socket" alive >/dev/null 2>&1 || unit_is_over
}

# A network file system keeps the lock of a host that is gone for its lease, 90 seconds of NFS 4: whoever fails for
# that at once might not be asked again.
lock_may_come_free() {
	case $words in
	*": busy: "*) [ "$(now)" -lt $(($1 - 3)) ] ;;
	*) return 1 ;;
	esac
}

# The time is over in the middle of another try: what the one before it found is why. 1: that was not the lock.
refuse_busy() {
	case $words in
	*": busy: "*) ;;
	*) return 1 ;;
	esac
	send_signal SIGKILL control-group
	refuse_start
}

# 1: it does not run, $words have why; those of an earlier try they have when it begins.
start_once() {
	write_options "--config $OCF_RESKEY_config $(leave_options)"
	start_unit
	until_is "$1" runs_or_is_over || refuse_busy ||
		refuse "$OCF_ERR_GENERIC" "$unit does not run after $((${OCF_RESKEY_CRM_meta_timeout:-60000} / 1000 - 5)) s; is its storage slow? Give start a longer timeout"
	unit_is_over || return 0
	words=$(last_words)
	return 1
}

start() {
	check_parameters
	by=$(deadline 5)
	alive >/dev/null 2>&1 && [ "$(unit_state)" = active ] && return "$OCF_SUCCESS"
	# What an action that was killed has left: a process that waits for a machine, or one that is ending.
	end_leftover "$by"
	check_nobody_runs_it
	[ "$(systemctl is-enabled -- "$unit" 2>/dev/null)" != enabled ] ||
		ocf_log warn "$unit is started at boot beside Pacemaker; systemctl disable $unit"
	words=
	while ! start_once "$by"; do
		lock_may_come_free "$by" || refuse_start
		ocf_log info "$name: $words; trying again while start has time"
		sleep 2
	done
	ocf_log info "$name runs"
	return "$OCF_SUCCESS"
}

# ---- its end ----

end_leftover() {
	unit_is_over && return 0
	if is_waiting; then
		send_signal SIGTERM
	fi
	until_is "$1" unit_is_over && return 0
	refuse "$OCF_ERR_GENERIC" "$unit is neither over nor does it run; systemctl kill -s KILL $unit"
}

# A move that is still to be undone is; one that is not is waited for.
settle_move() {
	systemctl stop -- "duet-move@$name.service" 2>/dev/null
	case $(move_state) in
	"running arriving "* | "running cut "*)
		ocf_log info "$name runs at another node, and this one still has some of its memory: waiting"
		until_is "$1" unit_is_over
		;;
	"running committed "* | "done "* | "lost "*)
		# It ends by itself, two seconds after the machine was given away.
		until_is "$(($(now) + 5))" unit_is_over
		;;
	"running "*)
		duet ctl "$socket" delete /duet/migration >/dev/null 2>&1
		;;
	esac
}

# A guest that stands still sees no power button.
press_button() {
	case $(duet ctl "$socket" get / 2>/dev/null) in
	*'"state": "Paused"'*) duet ctl "$socket" resume >/dev/null 2>&1 ;;
	esac
	send_signal SIGTERM
}

# The guest did not power off by itself.
end_at_once() {
	if [ "$OCF_RESKEY_stop_failed" = fail ]; then
		refuse "$OCF_ERR_GENERIC" "$name did not power off within $grace s, and stop_failed=fail: does its guest listen to the power button (acpid, systemd-logind)?"
	fi
	ocf_log warn "$name did not power off within $grace s: it is ended now"
	send_signal SIGTERM
	until_is "$(($(now) + 3))" unit_is_over && return 0
	send_signal SIGKILL control-group
	until_is "$1" unit_is_over && return 0
	refuse "$OCF_ERR_GENERIC" "$unit does not even end by SIGKILL: its storage hangs in the kernel; the node has to be fenced"
}

stop() {
	check_name
	by=$(deadline 3)
	if [ -n "$(unit_state)" ] && ! unit_is_over; then
		settle_move "$by"
		unit_is_over || end_machine "$by"
	fi
	systemctl reset-failed -- "$unit" 2>/dev/null
	forget
	ocf_log info "$name is stopped"
	return "$OCF_SUCCESS"
}

# The button, the guest's time, and then the end, for which ten seconds are kept.
end_machine() {
	grace=$(($1 - $(now) - 7))
	[ "$grace" -le "$OCF_RESKEY_shutdown_time" ] || grace=$OCF_RESKEY_shutdown_time
	[ "$grace" -ge 1 ] || grace=1
	press_button
	until_is "$(($(now) + grace))" unit_is_over || end_at_once "$1"
}

# ---- other parameters ----

# All but config= and name= are read anew by each action; what is told to a process at its start (where its
# certificates are) counts from the next one on.
reload() {
	monitor
	case $? in
	"$OCF_SUCCESS")
		ocf_log info "$name: the new parameters hold from now on"
		return "$OCF_SUCCESS"
		;;
	"$OCF_NOT_RUNNING") return "$OCF_NOT_RUNNING" ;;
	esac
	return "$OCF_ERR_GENERIC"
}
