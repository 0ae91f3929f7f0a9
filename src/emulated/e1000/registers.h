/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets and bits of the 82540EM's registers, by the manual's names (8254x Software Developer's
 * Manual, chapter 13), its descriptors (chapter 3) and its PHY (IEEE 802.3 clause 22;
 * 8254x 13.4.7).
 */
#ifndef DUET_EMULATED_E1000_REGISTERS_H
#define DUET_EMULATED_E1000_REGISTERS_H

#define E1000_CTRL   0x0000
#define E1000_STATUS 0x0008
#define E1000_EECD   0x0010
#define E1000_EERD   0x0014
#define E1000_MDIC   0x0020
#define E1000_FCT    0x0030
#define E1000_VET    0x0038
#define E1000_ICR    0x00c0
#define E1000_ITR    0x00c4
#define E1000_ICS    0x00c8
#define E1000_IMS    0x00d0
#define E1000_IMC    0x00d8
#define E1000_RCTL   0x0100
#define E1000_TCTL   0x0400
#define E1000_PBA    0x1000
#define E1000_RDBAL  0x2800
#define E1000_RDBAH  0x2804
#define E1000_RDLEN  0x2808
#define E1000_RDH    0x2810
#define E1000_RDT    0x2818
#define E1000_RDTR   0x2820
#define E1000_RADV   0x282c
#define E1000_TDBAL  0x3800
#define E1000_TDBAH  0x3804
#define E1000_TDLEN  0x3808
#define E1000_TDH    0x3810
#define E1000_TDT    0x3818
#define E1000_TIDV   0x3820
#define E1000_TADV   0x382c
#define E1000_MPC    0x4010
#define E1000_PRC64  0x405c
#define E1000_GPRC   0x4074
#define E1000_BPRC   0x4078
#define E1000_MPRC   0x407c
#define E1000_GPTC   0x4080
#define E1000_GORCL  0x4088
#define E1000_GOTCL  0x4090
#define E1000_RNBC   0x40a0
#define E1000_ROC    0x40ac
#define E1000_TORL   0x40c0
#define E1000_TOTL   0x40c8
#define E1000_TPR    0x40d0
#define E1000_TPT    0x40d4
#define E1000_PTC64  0x40d8
#define E1000_MPTC   0x40f0
#define E1000_BPTC   0x40f4
#define E1000_TSCTC  0x40f8
#define E1000_TSCTFC 0x40fc
#define E1000_RXCSUM 0x5000
#define E1000_MTA    0x5200
#define E1000_RA     0x5400
#define E1000_VFTA   0x5600

#define CTRL_FD      0x00000001U
#define CTRL_SLU     0x00000040U
#define CTRL_SPD     0x00000300U
#define CTRL_SPD_1G  0x00000200U
#define CTRL_FRCSPD  0x00000800U
#define CTRL_FRCDPX  0x00001000U
#define CTRL_RST     0x04000000U
#define CTRL_VME     0x40000000U
#define CTRL_PHY_RST 0x80000000U

#define STATUS_FD       0x00000001U
#define STATUS_LU       0x00000002U
#define STATUS_SPEED_1G 0x00000080U
#define STATUS_ASDV_1G  0x00000200U
#define STATUS_MTXCKOK  0x00000400U

#define ICR_TXDW   0x00000001U
#define ICR_TXQE   0x00000002U
#define ICR_LSC    0x00000004U
#define ICR_RXDMT0 0x00000010U
#define ICR_RXO    0x00000040U
#define ICR_RXT0   0x00000080U
#define ICR_MDAC   0x00000200U
#define ICR_ALL    0x0001ffffU

#define RCTL_EN    0x00000002U
#define RCTL_UPE   0x00000008U
#define RCTL_MPE   0x00000010U
#define RCTL_LPE   0x00000020U
#define RCTL_LBM   0x000000c0U
#define RCTL_BAM   0x00008000U
#define RCTL_VFE   0x00040000U
#define RCTL_CFIEN 0x00080000U
#define RCTL_CFI   0x00100000U
#define RCTL_BSEX  0x02000000U
#define RCTL_SECRC 0x04000000U

#define RCTL_RDMTS(rctl) ((rctl) >> 8 & 3)
#define RCTL_MO(rctl)    ((rctl) >> 12 & 3)
#define RCTL_BSIZE(rctl) ((rctl) >> 16 & 3)

#define RDTR_FPD     0x80000000U
#define RXCSUM_PCSS  0x000000ffU
#define RXCSUM_IPOFL 0x00000100U
#define RXCSUM_TUOFL 0x00000200U
#define RAH_AV       0x80000000U

#define TCTL_EN  0x00000002U
#define TCTL_PSP 0x00000008U

/* Receive descriptor: status and errors. */
#define RXD_DD    0x01
#define RXD_EOP   0x02
#define RXD_IXSM  0x04
#define RXD_VP    0x08
#define RXD_TCPCS 0x20
#define RXD_IPCS  0x40
#define RXD_PIF   0x80
#define RXD_TCPE  0x20
#define RXD_IPE   0x40
#define RXD_RXE   0x80

/* Transmit descriptor: the third word, with the command in its upper byte. */
#define TXD_LENGTH_LEGACY 0x0000ffffU
#define TXD_LENGTH        0x000fffffU
#define TXD_DTYP          0x00f00000U
#define TXD_DTYP_CONTEXT  0x00000000U
#define TXD_DTYP_DATA     0x00100000U
#define TXD_EOP           0x01000000U
#define TXD_IC            0x04000000U /* legacy */
#define TXD_TSE           0x04000000U /* data and context */
#define TXD_RS            0x08000000U
#define TXD_RPS           0x10000000U
#define TXD_DEXT          0x20000000U
#define TXD_VLE           0x40000000U
#define TXD_IDE           0x80000000U
#define TXD_TUCMD_TCP     0x01000000U /* context */
#define TXD_TUCMD_IP      0x02000000U
#define TXD_DD            0x01
#define TXD_POPTS_IXSM    0x01
#define TXD_POPTS_TXSM    0x02

#define PHY_ADDRESS    1
#define PHY_CTRL       0
#define PHY_STATUS     1
#define PHY_ID1        2
#define PHY_ID2        3
#define PHY_ANAR       4
#define PHY_LPA        5
#define PHY_ANER       6
#define PHY_NEXT_PAGE  7
#define PHY_1000T_CTRL 9
#define PHY_1000T_STAT 10
#define PHY_EXT_STATUS 15
#define PHY_M88_CTRL   16
#define PHY_M88_STATUS 17
#define PHY_M88_EXT    20

#endif
