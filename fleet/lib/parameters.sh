# SPDX-License-Identifier: Apache-2.0
# What the agent is told: its parameters, what they may be, and what they mean for a machine.
# shellcheck shell=sh disable=SC2154

: "${OCF_RESKEY_migration_network:=}"
: "${OCF_RESKEY_migration_ports:=49152-49215}"
: "${OCF_RESKEY_certificates:=/etc/duet/tls}"
: "${OCF_RESKEY_plain:=false}"
: "${OCF_RESKEY_migration_options:=}"
: "${OCF_RESKEY_shutdown_time:=60}"
: "${OCF_RESKEY_stop_failed:=end}"

# parameter NAME TYPE DEFAULT SHORT LONG [UNIQUE [REQUIRED]]
parameter() {
	cat <<-END
		<parameter name="$1" unique="${6:-0}" required="${7:-0}">
		<longdesc lang="en">$5</longdesc>
		<shortdesc lang="en">$4</shortdesc>
		<content type="$2" default="$3" />
		</parameter>
	END
}

meta_data() {
	cat <<-'END'
		<?xml version="1.0"?>
		<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
		<resource-agent name="VM" version="1.0">
		<version>1.0</version>
		<longdesc lang="en">A virtual machine of duet's: the unit duet@NAME.service, and duet ctl. It moves between
		nodes while it runs, if allow-migrate is true and its disks are there on both.</longdesc>
		<shortdesc lang="en">A virtual machine of duet</shortdesc>
		<parameters>
	END
	parameter config string "" "Configuration" "The machine's JSON, as duet run --config takes it, at the same path on \
each node: /etc/duet/web.json. What it names must be the same there too." 1 1
	parameter name string "" "Name" "Of the unit and the socket: the configuration's, without .json, if it is not said. \
Letters, digits and -_.:@, 63 at most." 1
	parameter migration_network string "" "Network of moves" "On which a node takes machines: 10.9.0.0/24. Without it, the \
address that the node's own name leads to."
	parameter migration_ports string "49152-49215" "Ports of moves" "A machine that comes takes the first that is free."
	parameter certificates string "/etc/duet/tls" "Certificates" "The folder with cert.pem, key.pem and ca.pem, by which \
two nodes know each other when a machine moves. The user duet reads them."
	parameter plain boolean false "No TLS" "Moves go without TLS: for a network where nobody else can listen or connect."
	parameter migration_options string "" "Options of moves" "For duet ctl SOCK migrate: --downtime, --streams, \
--compress, --force, --post-copy, --wait, --unplug."
	parameter hang_time integer 60 "Seconds until a guest hangs" "So long a guest may show no life (its kit's heartbeat, or \
what a living kernel does) until its monitor fails. 0: that is not looked at."
	parameter shutdown_time integer 60 "Seconds to power off" "So long the guest may take after its power button was \
pressed; at most what the time-out of stop leaves."
	parameter stop_failed string end "When the guest does not power off" "end: the machine is ended at once, what the guest \
has not flushed is lost. fail: stop fails, and the node is fenced."
	cat <<-'END'
		</parameters>
		<actions>
		<action name="start" timeout="180s" />
		<action name="stop" timeout="90s" />
		<action name="monitor" timeout="40s" interval="20s" depth="0" />
		<action name="migrate_to" timeout="30s" />
		<action name="migrate_from" timeout="600s" />
		<action name="reload" timeout="20s" />
		<action name="meta-data" timeout="5s" />
		<action name="validate-all" timeout="20s" />
		</actions>
		</resource-agent>
	END
}

# refuse CODE REASON...: the agent ends; the reason has the remedy.
refuse() {
	code=$1
	shift
	ocf_exit_reason "%s" "$*"
	exit "$code"
}

# is_number TEXT LEAST MOST
is_number() {
	case $1 in
	'' | *[!0-9]* | 0?* | ???????*) return 1 ;;
	esac
	[ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

# What goes into a unit's file of options, word by word.
is_word() {
	case $1 in
	'' | *[!A-Za-z0-9/:@._+=,-]*) return 1 ;;
	esac
}

check_name() {
	case $name in
	'' | [!A-Za-z0-9_]* | *[!A-Za-z0-9:@._-]* | ????????????????????????????????????????????????????????????????*)
		refuse "$OCF_ERR_CONFIGURED" "name=$name: letters, digits and -_.:@, 63 at most; say name= if the file of config= is called otherwise"
		;;
	esac
}

check_network() {
	case $OCF_RESKEY_migration_network in
	'') return 0 ;;
	*[!0-9a-fA-F.:/]* | */*/*) ;;
	*/*)
		is_number "${OCF_RESKEY_migration_network#*/}" 1 128 && return 0
		;;
	esac
	refuse "$OCF_ERR_CONFIGURED" "migration_network=$OCF_RESKEY_migration_network: an address and a length, as 10.9.0.0/24"
}

check_ports() {
	first=${OCF_RESKEY_migration_ports%-*}
	last=${OCF_RESKEY_migration_ports#*-}
	is_number "$first" 1 65535 && is_number "$last" "$first" 65535 && return 0
	refuse "$OCF_ERR_CONFIGURED" "migration_ports=$OCF_RESKEY_migration_ports: the first and the last port, as 49152-49215"
}

check_options() {
	# shellcheck disable=SC2086 # words
	for word in $OCF_RESKEY_migration_options; do
		case $word in
		--downtime | --streams | --compress | --force | --post-copy | --wait | --unplug) ;;
		*)
			is_number "$word" 1 999999 ||
				refuse "$OCF_ERR_CONFIGURED" "migration_options: $word: not one of duet ctl SOCK migrate's for this; certificates= and plain= say the others"
			;;
		esac
	done
}

# What is wrong on every node alike.
check_parameters() {
	check_name
	case $OCF_RESKEY_config in
	/*) is_word "$OCF_RESKEY_config" || refuse "$OCF_ERR_CONFIGURED" "config=$OCF_RESKEY_config: only letters, digits and /:@._+=,- in its path" ;;
	*) refuse "$OCF_ERR_CONFIGURED" "config=$OCF_RESKEY_config: the whole path of the machine's JSON, as /etc/duet/web.json" ;;
	esac
	check_network
	check_ports
	check_options
	is_word "$OCF_RESKEY_certificates" ||
		refuse "$OCF_ERR_CONFIGURED" "certificates=$OCF_RESKEY_certificates: only letters, digits and /:@._+=,- in its path"
	is_number "$OCF_RESKEY_hang_time" 0 86400 ||
		refuse "$OCF_ERR_CONFIGURED" "hang_time=$OCF_RESKEY_hang_time: seconds, 0 to 86400"
	is_number "$OCF_RESKEY_shutdown_time" 1 86400 ||
		refuse "$OCF_ERR_CONFIGURED" "shutdown_time=$OCF_RESKEY_shutdown_time: seconds, 1 to 86400"
	case $OCF_RESKEY_stop_failed in
	end | fail) ;;
	*) refuse "$OCF_ERR_CONFIGURED" "stop_failed=$OCF_RESKEY_stop_failed: it is end or fail" ;;
	esac
}

# What this node lacks. Another one may have it.
check_node() {
	for program in duet systemctl; do
		command -v "$program" >/dev/null || refuse "$OCF_ERR_INSTALLED" "$program: not installed on this node; apt install duet systemd"
	done
	[ -d "${DUET_SYSTEMD:-/run/systemd/system}" ] || refuse "$OCF_ERR_INSTALLED" "systemd does not run here, and duet@$name.service is its"
	[ -r "$OCF_RESKEY_config" ] ||
		refuse "$OCF_ERR_INSTALLED" "config=$OCF_RESKEY_config: cannot be read on this node; copy it here, or mount what it is on"
	wrong=$(duet check "$OCF_RESKEY_config" 2>&1) || refuse "$OCF_ERR_ARGS" "$wrong"
}

validate() {
	check_parameters
	check_node
}

is_plain() {
	ocf_is_true "$OCF_RESKEY_plain"
}

# Certificates are asked for where a machine moves, not where it starts: one node needs none.
check_certificates() {
	is_plain && return 0
	for file in cert.pem key.pem ca.pem; do
		[ -r "$OCF_RESKEY_certificates/$file" ] ||
			refuse "$OCF_ERR_INSTALLED" "certificates=$OCF_RESKEY_certificates: no $file there that can be read; see docs/fleet.md, or say plain=true on a network of the nodes' own"
	done
}

# Options of duet run by which a machine may be sent to another node.
leave_options() {
	if is_plain; then
		echo "--allow tcp"
	elif [ -d "$OCF_RESKEY_certificates" ]; then
		echo "--allow tcp,$OCF_RESKEY_certificates"
	fi
}

# Options of duet run and duet ctl migrate by which two nodes know each other.
tls_options() {
	if [ "$1" = run ] && is_plain; then
		echo "--plain on"
	elif is_plain; then
		echo "--plain"
	else
		echo "--cert $OCF_RESKEY_certificates/cert.pem --key $OCF_RESKEY_certificates/key.pem --ca $OCF_RESKEY_certificates/ca.pem"
	fi
}
