// SPDX-License-Identifier: GPL-2.0-only
/*
 * TCP congestion control "duet": Reno, but that a retransmission time-out which the sender's own
 * stolen time explains cuts nothing. The timer ran on the wall's clock; in effective time it would
 * not have been due. TCP's undo by F-RTO or timestamps needs an acknowledgement that tells, and new
 * data to send or an option of the peer's; this needs neither, and works beside them.
 *
 * What is retransmitted, and when, stays TCP's. A second time-out in a row is believed: what the
 * theft of one round explains, that of two no longer does.
 */
#include "duet.h"
#include "stolen.h"

#include <linux/module.h>
#include <net/tcp.h>

static unsigned long tcp_undone;
module_param(tcp_undone, ulong, 0444);
MODULE_PARM_DESC(tcp_undone, "time-outs of TCP that stolen time explained, so far");

/* In the socket, under its lock. */
struct tcp_duet {
	struct duet_stolen stolen;
	u64 marked; /* microseconds, of tcp_mstamp */
	u64 lost;   /* nanoseconds, then */
};

static void mark(struct sock *sk)
{
	struct tcp_duet *duet = inet_csk_ca(sk);

	duet->marked = tcp_sk(sk)->tcp_mstamp;
	duet->lost = duet_stolen_update(&duet->stolen);
}

static void duet_tcp_init(struct sock *sk)
{
	struct tcp_duet *duet = inet_csk_ca(sk);

	BUILD_BUG_ON(sizeof(struct tcp_duet) > ICSK_CA_PRIV_SIZE);
	duet_stolen_begin(&duet->stolen);
	mark(sk);
}

static void duet_tcp_event(struct sock *sk, enum tcp_ca_event event)
{
	if (event == CA_EVENT_TX_START)
		mark(sk);
}

static void duet_tcp_ack(struct sock *sk, u32 flags)
{
	mark(sk);
}

/*
 * The oldest segment was sent when the mark was set or before (the mark is at the last
 * acknowledgement, or at the first segment after a silence), so what was stolen since the mark was
 * stolen since it was sent.
 */
static bool theft_explains(struct sock *sk)
{
	u64 timeout = (u64)jiffies_to_usecs(inet_csk(sk)->icsk_rto), wall, stolen, sent;
	struct tcp_duet *duet = inet_csk_ca(sk);
	struct sk_buff *oldest = tcp_rtx_queue_head(sk);

	if (!oldest)
		return false;
	sent = tcp_skb_timestamp_us(oldest);
	wall = tcp_sk(sk)->tcp_mstamp - sent;
	stolen = div_u64(duet_stolen_peek(&duet->stolen) - duet->lost, NSEC_PER_USEC);
	return sent <= duet->marked && wall >= timeout && wall - min(stolen, wall) < timeout;
}

/* TCP_CA_Loss comes after the cut. */
static void duet_tcp_state(struct sock *sk, u8 state)
{
	struct tcp_sock *tp = tcp_sk(sk);

	if (state != TCP_CA_Loss || inet_csk(sk)->icsk_retransmits || !theft_explains(sk))
		return;
	tcp_snd_cwnd_set(tp, max(tcp_snd_cwnd(tp), tp->prior_cwnd));
	tp->snd_ssthresh = max(tp->snd_ssthresh, tp->prior_ssthresh);
	/* Of many sockets at once one may go missing, which matters to nobody. */
	WRITE_ONCE(tcp_undone, tcp_undone + 1);
}

static struct tcp_congestion_ops duet_congestion = {
	.name = "duet",
	.owner = THIS_MODULE,
	.flags = TCP_CONG_NON_RESTRICTED,
	.init = duet_tcp_init,
	.ssthresh = tcp_reno_ssthresh,
	.cong_avoid = tcp_reno_cong_avoid,
	.undo_cwnd = tcp_reno_undo_cwnd,
	.cwnd_event = duet_tcp_event,
	.in_ack_event = duet_tcp_ack,
	.set_state = duet_tcp_state,
};

static int tcp_start(struct duet *duet)
{
	return tcp_register_congestion_control(&duet_congestion);
}

/* A socket that has it holds the module, not the device. */
static void tcp_stop(struct duet *duet)
{
	tcp_unregister_congestion_control(&duet_congestion);
}

const struct duet_part duet_tcp = {
	.name = "tcp",
	.feature = DUET_NO_FEATURE,
	.start = tcp_start,
	.stop = tcp_stop,
};

/* The kernel asks for it by this name when a socket wants it. */
MODULE_ALIAS("tcp_duet");
