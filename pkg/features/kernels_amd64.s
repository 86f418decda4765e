//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// kernels_amd64.go says what each function is for. They ask for AVX2 and POPCNT, use no memory but their arguments', and are done in some microseconds, as they cannot be interrupted.

// A vector of four equal numbers of 64 bits.
#define FOUR(name, x) \
	DATA name<>+0(SB)/8, x  \
	DATA name<>+8(SB)/8, x  \
	DATA name<>+16(SB)/8, x \
	DATA name<>+24(SB)/8, x \
	GLOBL name<>(SB), RODATA|NOPTR, $32

// A table of sixteen bytes, the lowest of lo the first, for either half of a vector.
#define TABLE(name, lo, hi) \
	DATA name<>+0(SB)/8, lo  \
	DATA name<>+8(SB)/8, hi  \
	DATA name<>+16(SB)/8, lo \
	DATA name<>+24(SB)/8, hi \
	GLOBL name<>(SB), RODATA|NOPTR, $32

// What a byte is, is looked up by each half of it: it is what both tables of a pair say. A bit stands for bytes of which any low half goes with any high half.
//
// letters: 0x01 + - /, 0x02 =, 0x04 _, 0x08 digits, 0x10 A to O and a to o, 0x20 P to Z and p to z
TABLE(lettersLo, $0x3838383838383828, $0x1510131011303838)
TABLE(lettersHi, $0x201024100a010000, $0x0000000000000000)

// gaps: 0x01 space, 0x02 tab, 0x04 line feed and carriage return, 0x08 . !, 0x10 : ; ?
TABLE(gapsLo, $0x0000000000000801, $0x1008040010140200)
TABLE(gapsHi, $0x0000000010090006, $0x0000000000000000)

// rare: 0x01 and 0x02 control characters, 0x04 0x7f and 0xef, 0x08 # and 0xf3, 0x10 <, 0x20 [, 0x40 0xc2 and 0xe2
TABLE(rareLo, $0x030303030b430303, $0x0703021323020203)
TABLE(rareHi, $0x0400200010080201, $0x0844004000000000)

// first: 0x01 -, 0x02 A, 0x04 s x, 0x08 e g, 0x10 r, 0x20 n, 0x80 t
TABLE(firstLo, $0x0800088004100200, $0x0020010000000004)
TABLE(firstHi, $0x9428000200010000, $0x0000000000000000)

FOUR(nibble, $0x0f0f0f0f0f0f0f0f)
FOUR(three, $0x0303030303030303)
FOUR(seven, $0x0707070707070707)
FOUR(backslash, $0x5c5c5c5c5c5c5c5c)

// LOOKUP sets Y3 to what a pair of tables says of the bytes whose halves are in Y1, the low one, and Y2.
#define LOOKUP(lo, hi) \
	VMOVDQU lo<>(SB), Y3 \
	VMOVDQU hi<>(SB), Y4 \
	VPSHUFB Y1, Y3, Y3   \
	VPSHUFB Y2, Y4, Y4   \
	VPAND   Y3, Y4, Y3

// SET is where a set of the block at hand is.
#define SET(set) (set*const_chunkBytes/8)(DI)

// COUNT counts the four bytes at an offset, each in its own histogram. It is done amid what vectors do, as either leaves the other's parts of the processor idle.
#define COUNT(at) \
	MOVBLZX at(SI), R9          \
	MOVBLZX (at+1)(SI), R10     \
	MOVBLZX (at+2)(SI), R11     \
	MOVBLZX (at+3)(SI), R12     \
	INCL    0x000(R13)(R9*4)    \
	INCL    0x400(R13)(R10*4)   \
	INCL    0x800(R13)(R11*4)   \
	INCL    0xc00(R13)(R12*4)

// func setsKernel(sets *chunk, block int, text *byte, blocks int, counts *quads)
TEXT ·setsKernel(SB), NOSPLIT, $0-40
	MOVQ    sets+0(FP), DI
	MOVQ    block+8(FP), AX
	LEAQ    (DI)(AX*8), DI
	MOVQ    text+16(FP), SI
	MOVQ    blocks+24(FP), CX
	SHLQ    $1, CX
	MOVQ    counts+32(FP), R13
	VMOVDQU nibble<>(SB), Y15
	VPXOR   Y14, Y14, Y14
	VMOVDQU seven<>(SB), Y13
	VMOVDQU three<>(SB), Y12
	VMOVDQU backslash<>(SB), Y11

half:
	VMOVDQU (SI), Y0
	VPAND   Y0, Y15, Y1
	VPSRLW  $4, Y0, Y2
	VPAND   Y2, Y15, Y2

	// Letters and digits, or beyond ASCII, which the highest bit tells; with the rest of the base64 alphabet.
	LOOKUP(lettersLo, lettersHi)
	COUNT(0)
	COUNT(4)
	VPCMPGTB  Y13, Y3, Y4
	VPOR      Y0, Y4, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inWord)
	VPCMPGTB  Y14, Y3, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inEncoded)

	// What has any of the lower three bits, and what has any but the lower two.
	LOOKUP(gapsLo, gapsHi)
	COUNT(8)
	COUNT(12)
	VPCMPGTB  Y13, Y3, Y4
	VPCMPGTB  Y14, Y3, Y5
	VPANDN    Y5, Y4, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inBlank)
	VPCMPGTB  Y12, Y3, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inSentence)

	LOOKUP(rareLo, rareHi)
	COUNT(16)
	COUNT(20)
	VPCMPGTB  Y14, Y3, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inRare)

	VPCMPEQB  Y11, Y0, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inBackslash)

	// n and r have a bit above the lower four, and t the highest, by which it is below zero and none of the first letters.
	LOOKUP(firstLo, firstHi)
	COUNT(24)
	COUNT(28)
	VPCMPGTB  Y15, Y3, Y4
	VPOR      Y3, Y4, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inBreaks)
	VPCMPGTB  Y14, Y3, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, SET(const_inSecret)

	ADDQ $32, SI
	ADDQ $4, DI
	DECQ CX
	JNZ  half
	VZEROUPPER
	RET

// func wordsKernel(words *uint64, text *byte, blocks int)
TEXT ·wordsKernel(SB), NOSPLIT, $0-24
	MOVQ    words+0(FP), DI
	MOVQ    text+8(FP), SI
	MOVQ    blocks+16(FP), CX
	SHLQ    $1, CX
	VMOVDQU nibble<>(SB), Y15
	VMOVDQU seven<>(SB), Y13

half:
	VMOVDQU   (SI), Y0
	VPAND     Y0, Y15, Y1
	VPSRLW    $4, Y0, Y2
	VPAND     Y2, Y15, Y2
	LOOKUP(lettersLo, lettersHi)
	VPCMPGTB  Y13, Y3, Y4
	VPOR      Y0, Y4, Y4
	VPMOVMSKB Y4, AX
	MOVL      AX, (DI)
	ADDQ      $32, SI
	ADDQ      $4, DI
	DECQ      CX
	JNZ       half
	VZEROUPPER
	RET

FOUR(eights, $0x0000000800000008)

// EIGHT stores the places of the bits of the lowest byte of AX, always eight, goes past those that there are, and takes the next byte.
#define EIGHT \
	MOVBLZX   AX, BX           \
	VPMOVZXBD (R8)(BX*8), Y1   \
	VPADDD    Y0, Y1, Y1       \
	VMOVDQU   Y1, (DI)         \
	VPADDD    Y2, Y0, Y0       \
	POPCNTL   BX, BX           \
	LEAQ      (DI)(BX*4), DI   \
	SHRQ      $8, AX

// func placesKernel(places *uint32, turns *uint64, blocks int, at uint32, of *[256]uint64) (n int)
TEXT ·placesKernel(SB), NOSPLIT, $0-48
	MOVQ         places+0(FP), DI
	MOVQ         turns+8(FP), SI
	MOVQ         blocks+16(FP), CX
	MOVL         at+24(FP), AX
	VMOVD        AX, X0
	VPBROADCASTD X0, Y0
	MOVQ         of+32(FP), R8
	VMOVDQU      eights<>(SB), Y2

places:
	MOVQ (SI), AX
	EIGHT
	EIGHT
	EIGHT
	EIGHT
	EIGHT
	EIGHT
	EIGHT
	EIGHT
	ADDQ $8, SI
	DECQ CX
	JNZ  places
	SUBQ places+0(FP), DI
	SHRQ $2, DI
	MOVQ DI, n+40(FP)
	VZEROUPPER
	RET

FOUR(one, $1)
FOUR(two, $2)
FOUR(longer, $17)
FOUR(sixtyfour, $64)
FOUR(spaces, $0x2020202020202020)
FOUR(bits6, $0x4040404040404040)
FOUR(bits76, $0xc0c0c0c0c0c0c0c0)
FOUR(bits75, $0xa0a0a0a0a0a0a0a0)
FOUR(basis, $0x2d358dccaa6c78a5)
FOUR(other, $0x8bb84b93962eacc9)
FOUR(mix1, $0xbf58476d1ce4e5b9)
FOUR(mix1Hi, $0x00000000bf58476d)
FOUR(mix2, $0x94d049bb133111eb)
FOUR(mix2Hi, $0x0000000094d049bb)
FOUR(class, $1023)
DATA evens<>+0(SB)/8, $0x0000000200000000
DATA evens<>+8(SB)/8, $0x0000000600000004
DATA evens<>+16(SB)/8, $0x0000000200000000
DATA evens<>+24(SB)/8, $0x0000000600000004
GLOBL evens<>(SB), RODATA|NOPTR, $32

// MULTIPLY multiplies Y8 by a number whose high half is given as well, modulo 1<<64.
#define MULTIPLY(by, byHi) \
	VPSRLQ   $32, Y8, Y0       \
	VPMULUDQ by<>(SB), Y0, Y0  \
	VPMULUDQ byHi<>(SB), Y8, Y1 \
	VPADDQ   Y1, Y0, Y0        \
	VPSLLQ   $32, Y0, Y0       \
	VPMULUDQ by<>(SB), Y8, Y8  \
	VPADDQ   Y0, Y8, Y8

// func spellKernel(text *byte, bounds *uint32, hashes *uint64, ids *uint16, fours int, salt uint64, long *uint16) (longs, capitals int)
TEXT ·spellKernel(SB), NOSPLIT, $0-72
	MOVQ         text+0(FP), SI
	MOVQ         bounds+8(FP), BX
	MOVQ         hashes+16(FP), DI
	MOVQ         ids+24(FP), DX
	MOVQ         fours+32(FP), CX
	VPBROADCASTQ salt+40(FP), Y12
	MOVQ         long+48(FP), R8
	XORL         R9, R9
	XORL         R10, R10
	VPXOR        Y14, Y14, Y14
	VPCMPEQQ     Y15, Y15, Y15
	VMOVDQU      longer<>(SB), Y13
	VPXOR        Y11, Y11, Y11
	VMOVDQU      evens<>(SB), Y10

four:
	// Y2 and Y3: the first eight bytes of four words, and the next eight.
	MOVL        0(BX), R11
	MOVL        8(BX), R12
	MOVL        16(BX), R13
	MOVL        24(BX), AX
	VMOVDQU     (SI)(R11*1), X0
	VMOVDQU     (SI)(R12*1), X1
	VINSERTI128 $1, (SI)(R13*1), Y0, Y0
	VINSERTI128 $1, (SI)(AX*1), Y1, Y1
	VPUNPCKLQDQ Y1, Y0, Y2
	VPUNPCKHQDQ Y1, Y0, Y3

	// Y4: their lengths, 17 for all that are longer. Y6 and Y7: ones where the words have ended.
	VMOVDQU   (BX), Y4
	VPSRLQ    $32, Y4, Y5
	VPSUBD    Y4, Y5, Y4
	VPBLENDD  $0xaa, Y14, Y4, Y4
	VPMINUD   Y13, Y4, Y4
	VPSLLQ    $3, Y4, Y5
	VPSLLVQ   Y5, Y15, Y6
	VPSUBUSW  sixtyfour<>(SB), Y5, Y5
	VPSLLVQ   Y5, Y15, Y7
	VPANDN    Y2, Y6, Y2
	VPANDN    Y3, Y7, Y3

	// Note where there is a longer word.
	VPCMPGTQ  Y4, Y13, Y9
	VMOVMSKPD Y9, AX
	XORL      $15, AX
	MOVW      R10, (R8)(R9*2)
	NEGL      AX
	ADCQ      $0, R9

	// Y8: the hashes, by products of halves.
	VPOR     spaces<>(SB), Y2, Y0
	VPOR     spaces<>(SB), Y3, Y1
	VPXOR    basis<>(SB), Y0, Y0
	VPXOR    other<>(SB), Y1, Y1
	VPSRLQ   $32, Y0, Y5
	VPSRLQ   $32, Y1, Y9
	VPMULUDQ Y1, Y0, Y8
	VPMULUDQ Y9, Y0, Y0
	VPMULUDQ Y1, Y5, Y1
	VPMULUDQ Y9, Y5, Y5
	VPSRLQ   $32, Y8, Y9
	VPADDQ   Y9, Y1, Y1
	VPBLENDD $0xaa, Y14, Y1, Y9
	VPADDQ   Y9, Y0, Y0
	VPSRLQ   $32, Y1, Y1
	VPADDQ   Y1, Y5, Y5
	VPSRLQ   $32, Y0, Y1
	VPADDQ   Y1, Y5, Y5
	VPSLLQ   $32, Y0, Y0
	VPBLENDD $0xaa, Y0, Y8, Y8
	VPXOR    Y5, Y8, Y8
	VMOVDQU  Y8, (DI)
	TESTQ    DX, DX
	JZ       next

	// Y0: ones where a word has no digits. Y6: where it has nothing else. Y1: where all are capitals.
	VPSRLQ   $1, Y2, Y0
	VPSRLQ   $1, Y3, Y1
	VPOR     Y2, Y0, Y0
	VPOR     Y3, Y1, Y1
	VPOR     Y6, Y0, Y0
	VPOR     Y7, Y1, Y1
	VPAND    Y1, Y0, Y0
	VPANDN   bits6<>(SB), Y0, Y0
	VPCMPEQQ Y14, Y0, Y0
	VPOR     Y2, Y3, Y1
	VPAND    bits76<>(SB), Y1, Y6
	VPCMPEQQ Y14, Y6, Y6
	VPAND    bits75<>(SB), Y1, Y1
	VPCMPEQQ Y14, Y1, Y1

	// Count those of three capitals to sixteen.
	VPCMPGTQ two<>(SB), Y4, Y7
	VPAND    Y7, Y1, Y1
	VPCMPGTQ Y4, Y13, Y7
	VPAND    Y7, Y1, Y1
	VPSUBQ   Y1, Y11, Y11

	// The classes: of the hash, or of what stands for it where there are digits.
	VPANDN     Y4, Y6, Y6
	VPADDQ     one<>(SB), Y6, Y6
	VPBLENDVB  Y0, Y8, Y6, Y8
	VPXOR      Y12, Y8, Y8
	VPSRLQ     $30, Y8, Y0
	VPXOR      Y0, Y8, Y8
	MULTIPLY(mix1, mix1Hi)
	VPSRLQ     $27, Y8, Y0
	VPXOR      Y0, Y8, Y8
	MULTIPLY(mix2, mix2Hi)
	VPSRLQ     $31, Y8, Y0
	VPXOR      Y0, Y8, Y8
	VPAND      class<>(SB), Y8, Y8
	VPERMD     Y8, Y10, Y8
	VPACKUSDW  X8, X8, X8
	VMOVQ      X8, (DX)
	ADDQ       $8, DX

next:
	ADDQ $32, BX
	ADDQ $32, DI
	INCL R10
	DECQ CX
	JNZ  four

	MOVQ         R9, longs+56(FP)
	VEXTRACTI128 $1, Y11, X0
	VPADDQ       X11, X0, X0
	VPSRLDQ      $8, X0, X1
	VPADDQ       X1, X0, X0
	VMOVQ        X0, capitals+64(FP)
	VZEROUPPER
	RET

// func siftKernel(t *table, hashes *uint64, n int) (functions, tell uint64)
TEXT ·siftKernel(SB), NOSPLIT, $0-40
	MOVQ t+0(FP), DI
	MOVQ hashes+8(FP), SI
	MOVQ n+16(FP), DX
	LEAQ (SI)(DX*8), DX
	XORL R8, R8
	XORL R9, R9
	XORL R10, R10

word:
	// BX: what is at the word's place; its lower 16 bits are the categories, if the others are those of the hash.
	MOVQ    (SI), AX
	MOVBLZX AX, BX
	MOVQ    AX, CX
	SHRQ    $8, CX
	IMULL   table_factors(DI)(BX*4), CX
	SHRL    $(32-const_slotBits), CX
	MOVQ    table_slots(DI)(CX*8), BX
	XORQ    BX, AX
	SHRQ    $const_catBits, AX
	CMOVQNE R10, BX

	// Shift in whether it has the category of function words, and whether any of those that tell.
	BTL  $3, BX
	RCRQ $1, R8
	ANDL $const_telling, BX
	NEGL BX
	RCRQ $1, R9
	ADDQ $8, SI
	CMPQ SI, DX
	JNE  word
	MOVQ R8, functions+24(FP)
	MOVQ R9, tell+32(FP)
	RET

// PAIR looks up the pair of classes in AX and BX, and shifts what it finds into R8, R9 and R10.
#define PAIR \
	SHLL  $10, AX              \
	ORL   BX, AX               \
	MOVL  AX, CX               \
	SHRL  $5, CX               \
	MOVQ  (SI)(CX*8), CX       \
	LEAL  (AX)(AX*1), BX       \
	BTQ   BX, CX               \
	ADCQ  R8, R8               \
	INCL  BX                   \
	BTQ   BX, CX               \
	ADCQ  R9, R9               \
	IMULQ R12, AX              \
	ADDQ  R13, AX              \
	SHRQ  $45, AX              \
	MOVL  AX, CX               \
	SHRL  $6, CX               \
	MOVQ  sketch_byTool(SI)(CX*8), CX \
	BTQ   AX, CX               \
	ADCQ  R10, R10

// func lookUpKernel(s *sketch, last uint16, ids *uint16, n int, name uint16) (results, said, own uint64)
TEXT ·lookUpKernel(SB), NOSPLIT, $0-64
	MOVQ    s+0(FP), SI
	MOVQ    ids+16(FP), DI
	MOVQ    n+24(FP), DX
	MOVQ    $0x9e3779b97f4a7c15, R12
	MOVWLZX name+32(FP), R13
	SHLQ    $32, R13
	IMULQ   R12, R13
	XORL    R8, R8
	XORL    R9, R9
	XORL    R10, R10
	DECQ    DX
	JZ      first

	// From the last pair to the first, so that the first ends up lowest.
pair:
	MOVWLZX -2(DI)(DX*2), AX
	MOVWLZX (DI)(DX*2), BX
	PAIR
	DECQ    DX
	JNZ     pair

first:
	MOVWLZX last+8(FP), AX
	MOVWLZX (DI), BX
	PAIR
	MOVQ    R8, results+40(FP)
	MOVQ    R9, said+48(FP)
	MOVQ    R10, own+56(FP)
	RET
