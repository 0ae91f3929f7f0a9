# SPDX-License-Identifier: Apache-2.0
# The machine's unit and API.
# shellcheck shell=sh disable=SC2154

unit=duet@$name.service

# Seconds since the host's start.
now() {
	read -r uptime _ </proc/uptime
	echo "${uptime%.*}"
}

# When this action is to have ended, so that it may still say why it did not: $1 seconds before Pacemaker ends it.
deadline() {
	left=$((${OCF_RESKEY_CRM_meta_timeout:-60000} / 1000 - $1))
	[ "$left" -ge 2 ] || left=2
	echo $(($(now) + left))
}

pause() {
	sleep 0.2
}

# active, activating, deactivating, inactive, failed; nothing where systemd does not answer.
unit_state() {
	systemctl show --value -p ActiveState -- "$unit" 2>/dev/null
}

unit_is_over() {
	case $(unit_state) in
	inactive | failed) return 0 ;;
	esac
	return 1
}

# until DEADLINE COMMAND...: 1: it has not come true by then.
until_is() {
	by=$1
	shift
	while ! "$@"; do
		[ "$(now)" -lt "$by" ] || return 1
		pause
	done
}

# The last error of the machine's process, in its own words.
last_words() {
	invocation=$(systemctl show --value -p InvocationID -- "$unit" 2>/dev/null)
	[ -n "$invocation" ] || return 0
	journalctl -q -o cat -n 50 "_SYSTEMD_INVOCATION_ID=$invocation" 2>/dev/null |
		sed -n 's/^duet: error: //p' | tail -n 1
}

# It waits for a machine of another node, and runs none.
is_waiting() {
	case $(duet ctl "$socket" alive 2>&1) in
	*"is on its way here"*) return 0 ;;
	esac
	return 1
}

# Of the move away that is under way or was: its state and phase, as "running copying"; nothing: none was.
move_state() {
	duet ctl "$socket" get /duet/migration 2>/dev/null | sed -n \
		-e 's/^ *"state": "\([a-z]*\)".*/state \1/p' -e 's/^ *"phase": "\([a-z]*\)".*/phase \1/p' |
		sort -r | sed 's/^[a-z]* //' | tr '\n' ' '
}

# send_signal SIGNAL [control-group|main]: without a job of systemd's, see docs/decisions.md.
send_signal() {
	systemctl kill --signal="$1" --kill-who="${2:-main}" -- "$unit" 2>/dev/null
}

# What the unit runs next: the words after duet run.
write_options() {
	mkdir -p "$DUET_RUN" &&
		printf 'DUET_OPTIONS=%s\n' "$*" >"$DUET_RUN/$name.options" &&
		printf '%s\n' "$OCF_RESOURCE_INSTANCE" >"$DUET_RUN/$name.resource" && return 0
	refuse "$OCF_ERR_GENERIC" "$DUET_RUN/$name.options: cannot be written; is /run full, or read-only?"
}

forget() {
	rm -f "$DUET_RUN/$name.options" "$DUET_RUN/$name.resource" "$DUET_RUN/$name.alive" "$DUET_RUN/$name.move"
}

# The unit begins; what it says when it cannot is the caller's to look for.
start_unit() {
	systemctl reset-failed -- "$unit" 2>/dev/null
	rm -f "$DUET_RUN/$name.alive"
	said=$(systemctl start -- "$unit" 2>&1) && return 0
	refuse "$OCF_ERR_GENERIC" "$unit: $said"
}
