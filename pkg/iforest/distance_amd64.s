//go:build !purego

#include "textflag.h"

// One step of four features: Y1 = ((x − prototype) · inverse)², each in float64 and rounded
// after each operation.
#define SQUARES \
	VCVTPS2PD (SI)(AX*4), Y1 \
	VCVTPS2PD (DI)(AX*4), Y2 \
	VCVTPS2PD (DX)(AX*4), Y3 \
	VSUBPD    Y2, Y1, Y1     \
	VMULPD    Y3, Y1, Y1     \
	VMULPD    Y1, Y1, Y1

// func sumSquaresAVX2(x, prototype, inverse *float32, n int) (s0, s1, s2, s3 float64)
TEXT ·sumSquaresAVX2(SB), NOSPLIT, $0-64
	MOVQ   x+0(FP), SI
	MOVQ   prototype+8(FP), DI
	MOVQ   inverse+16(FP), DX
	MOVQ   n+24(FP), CX
	XORQ   AX, AX
	VXORPD Y0, Y0, Y0

sum:
	CMPQ   AX, CX
	JGE    summed
	SQUARES
	VADDPD Y1, Y0, Y0
	ADDQ   $4, AX
	JMP    sum

summed:
	VMOVUPD Y0, s0+32(FP)
	VZEROUPPER
	RET

// func addSquaresAVX2(dst *float64, x, prototype, inverse *float32, n int, factor float64)
TEXT ·addSquaresAVX2(SB), NOSPLIT, $0-48
	MOVQ         dst+0(FP), BX
	MOVQ         x+8(FP), SI
	MOVQ         prototype+16(FP), DI
	MOVQ         inverse+24(FP), DX
	MOVQ         n+32(FP), CX
	VBROADCASTSD factor+40(FP), Y0
	XORQ         AX, AX

add:
	CMPQ    AX, CX
	JGE     added
	SQUARES
	VMULPD  Y0, Y1, Y1
	VADDPD  (BX)(AX*8), Y1, Y1
	VMOVUPD Y1, (BX)(AX*8)
	ADDQ    $4, AX
	JMP     add

added:
	VZEROUPPER
	RET
