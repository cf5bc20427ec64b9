"""Thumb machine code as the cycle models see it: what each instruction reads, writes and is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from midge.run.machine_code import disassembler


class Kind(Enum):
    """Instructions that a pipeline treats alike."""

    ALU = auto()
    MULTIPLY = auto()
    LONG_MULTIPLY = auto()
    DIVIDE = auto()
    LOAD = auto()
    STORE = auto()
    DUAL = auto()
    MULTIPLE = auto()
    EXCLUSIVE = auto()
    BRANCH = auto()
    TABLE_BRANCH = auto()
    IT = auto()
    SYSTEM = auto()
    FP_ARITHMETIC = auto()
    FP_MAC = auto()
    FP_DIVIDE = auto()
    FP_MOVE = auto()
    UNKNOWN = auto()


_NAMES = {
    Kind.ALU: """adc add addw adr and asr bfc bfi bic clz cmn cmp eor hint lsl lsr mov movs movt
        movw mvn nop orn orr pkhbt pkhtb qadd qadd16 qadd8 qasx qdadd qdsub qsax qsub qsub16 qsub8
        rbit rev rev16 revsh ror rrx rsb sadd16 sadd8 sasx sbc sbfx sel shadd16 shadd8 shasx shsax
        shsub16 shsub8 ssat ssat16 ssax ssub16 ssub8 sub subs subw sxtab sxtab16 sxtah sxtb sxtb16
        sxth teq tst uadd16 uadd8 uasx ubfx uhadd16 uhadd8 uhasx uhsax uhsub16 uhsub8 uqadd16
        uqadd8 uqasx uqsax uqsub16 uqsub8 usad8 usada8 usat usat16 usax usub16 usub8 uxtab uxtab16
        uxtah uxtb uxtb16 uxth""",
    Kind.MULTIPLY: """mul mla mls smlabb smlabt smlatb smlatt smlad smladx smlawb smlawt smlsd
        smlsdx smmla smmlar smmls smmlsr smmul smmulr smuad smuadx smulbb smulbt smultb smultt
        smulwb smulwt smusd smusdx""",
    Kind.LONG_MULTIPLY: """smull umull smlal umlal umaal smlalbb smlalbt smlaltb smlaltt smlald
        smlaldx smlsld smlsldx""",
    Kind.DIVIDE: "sdiv udiv",
    Kind.LOAD: "ldr ldrb ldrh ldrsb ldrsh ldrt ldrbt ldrht ldrsbt ldrsht vldr",
    Kind.STORE: "str strb strh strt strbt strht vstr",
    Kind.DUAL: "ldrd strd",
    Kind.MULTIPLE: """ldm ldmdb pop stm stmdb push vldmia vldmdb vpop vstmia vstmdb vpush""",
    Kind.EXCLUSIVE: """ldrex ldrexb ldrexh strex strexb strexh lda ldab ldah stl stlb stlh""",
    Kind.BRANCH: "b bl bx blx cbz cbnz bxns blxns",
    Kind.TABLE_BRANCH: "tbb tbh",
    Kind.IT: "it",
    Kind.SYSTEM: "bkpt clrex cps dmb dsb isb mrs msr pld pli sev svc udf wfe wfi yield",
    Kind.FP_ARITHMETIC: "vadd vsub vmul vnmul vcvt vcvtr vcvtb vcvtt",
    Kind.FP_MAC: "vmla vmls vnmla vnmls vfma vfms vfnma vfnms",
    Kind.FP_DIVIDE: "vdiv vsqrt",
    Kind.FP_MOVE: """vmov fconsts fconstd vabs vneg vcmp vcmpe fmstat vmrs vmsr vmaxnm vminnm vrinta
        vrintm vrintn vrintp vrintr vrintx vrintz vcvta vcvtm vcvtn vcvtp vseleq vselge
        vselgt vselvs""",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_COMPUTES = frozenset(
    (Kind.ALU, Kind.MULTIPLY, Kind.LONG_MULTIPLY, Kind.FP_ARITHMETIC, Kind.FP_MAC, Kind.FP_DIVIDE)
)
_CORE = frozenset([*(f"r{n}" for n in range(9)), "sb", "sl", "fp", "ip", "sp", "lr"])


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction; registers by name, conditions and width suffixes dropped.

    name: "ldrsb"; a mnemonic with no `Kind`, or ".inst" for bytes that decode to nothing.
    operands: its register operands in order, register lists included.
    base, index: of its memory operand, "" when there is none.
    writeback: the base register is updated. shifted: an operand passes through the shifter.
    """

    name: str
    kind: Kind
    size: int
    operands: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    base: str = ""
    index: str = ""
    writeback: bool = False
    shifted: bool = False

    @property
    def address(self) -> frozenset[str]:
        """The registers its memory address is computed from."""
        return frozenset((self.base, self.index)) - {""}

    @property
    def loaded(self) -> frozenset[str]:
        """What it writes, apart from an updated base."""
        return self.writes - {self.base} if self.writeback else self.writes

    @property
    def words(self) -> int:
        """32-bit words that a load or store of several registers moves."""
        if self.kind is Kind.DUAL:
            return 2
        listed = self.operands[0 if self.name.endswith(("pop", "push")) else 1 :]
        return sum(2 if name.startswith("d") else 1 for name in listed)

    @property
    def double(self) -> bool:
        """The first register operand is a 64-bit one."""
        return self.operands[:1] != () and self.operands[0].startswith("d")

    @property
    def uses_core_register(self) -> bool:
        return not _CORE.isdisjoint(self.operands)

    @property
    def writes_pc(self) -> bool:
        return "pc" in self.writes

    @property
    def stores(self) -> bool:
        return self.name.startswith(("st", "vst", "push", "vpush"))

    def adds(self, name: str) -> bool:
        """`name` is what a multiply-accumulate adds to, and not one of its factors."""
        match self.kind:
            case Kind.MULTIPLY:
                return len(self.operands) == 4 and name not in self.operands[1:3]
            case Kind.LONG_MULTIPLY:
                return name not in self.operands[2:]
            case Kind.FP_MAC:
                return name not in self.operands[1:]
            case _:
                return False


def decode(code: bytes) -> Iterator[Instruction]:
    """The instructions of a block of Thumb code, in order.

    A 4-byte encoding is known by its first halfword (Armv7-M ARM, A5.1); each distinct encoding is
    disassembled once, because that is a thousand times slower than looking it up.
    """
    at = 0
    while at < len(code):
        wide = at + 4 <= len(code) and code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111)
        size = 4 if wide else 2
        yield _decode_one(code[at : at + size])
        at += size


@lru_cache(maxsize=1 << 16)
def _decode_one(code: bytes) -> Instruction:
    from capstone import arm_const

    engine = disassembler("arm")
    found = next(engine.disasm(code, 0), None)
    if found is None:
        return Instruction(".inst", Kind.UNKNOWN, len(code))
    name = str(engine.insn_name(found.id))
    register_operands = [o for o in found.operands if o.type == arm_const.ARM_OP_REG]
    operands = tuple(engine.reg_name(o.reg) for o in register_operands)
    memory = next((o.mem for o in found.operands if o.type == arm_const.ARM_OP_MEM), None)
    reads, writes = ({engine.reg_name(r) for r in side} for side in found.regs_access())
    kind = _KINDS.get(name, Kind.UNKNOWN)
    _complete(name, kind, operands, reads, writes)
    if found.update_flags:
        writes.add("cpsr")
    return Instruction(
        name,
        kind,
        len(code),
        operands=operands,
        reads=frozenset(reads),
        writes=frozenset(writes),
        base=engine.reg_name(memory.base) if memory and memory.base else "",
        index=engine.reg_name(memory.index) if memory and memory.index else "",
        writeback=bool(found.writeback),
        shifted=any(o.shift.type != arm_const.ARM_SFT_INVALID for o in register_operands),
    )


def _complete(
    name: str, kind: Kind, operands: tuple[str, ...], reads: set[str], writes: set[str]
) -> None:
    """Add what Capstone's register lists leave out: sources of SIMD and saturating instructions,
    the sum that SMLAL and its like add to, what VLDM loads.
    """
    if kind in _COMPUTES:
        reads.update(operands[1:])
    if kind is Kind.LONG_MULTIPLY and name not in ("smull", "umull"):
        reads.update(operands[:2])
    if name.startswith(("vldm", "vpop")):
        writes.update(operands if name == "vpop" else operands[1:])
