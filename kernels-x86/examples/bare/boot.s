# From reset to `start`: real mode in the ROM, then 32 bits, then 64 bits with AVX-512 on. And what C's library would bring.

.section .reset.code, "ax"
.code16
reset:
    cli
    lgdtl %cs:(gdt_pointer - reset)
    movl %cr0, %eax
    orl $1, %eax                    # protection
    movl %eax, %cr0
    ljmpl $8, $fill
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
.balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        # 32-bit code
    .quad 0x00cf93000000ffff        # data
    .quad 0x00af9b000000ffff        # 64-bit code
gdt_end:

.code32
fill:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    # Bochs hands out memory in the order in which it is first used, and has read the file as one run: use it in order.
    movl $0x100000, %eax
1:  movl (%eax), %ecx
    addl $4096, %eax
    cmpl $end, %eax
    jb 1b
    movl $protected, %eax
    jmp *%eax

.section .reset.vector, "ax"
.code16
    jmp reset                       # 0xfffffff0
    .balign 16

.section .text.boot, "ax"
.code32
.globl protected
protected:
    movl $0x40620, %eax             # PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    movl %eax, %cr4
    movl $pages4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          # EFER
    movl $0x100, %eax               # long mode
    xorl %edx, %edx
    wrmsr
    movl $0x80000033, %eax          # paging, numeric errors, no emulation, protection
    movl %eax, %cr0
    ljmpl $24, $long

.code64
long:
    xorl %ecx, %ecx
    movl $0xe7, %eax                # x87, SSE, AVX, and AVX-512's three
    xorl %edx, %edx
    xsetbv
    movl $0x1ff00000, %esp
    call start

.section .data.boot, "aw"
.balign 4096
pages4:
    .quad pages3 + 3
    .fill 511, 8, 0
pages3:
    .quad 0x00000083                # 1 GiB a page, where it is: memory
    .fill 2, 8, 0
    .quad 0xc0000083                # and the ROM
    .fill 508, 8, 0

.section .text.memory, "ax"
.globl memcpy, memmove, memset, memcmp, bcmp
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax
    jae memcpy                      # the destination does not begin inside the source
    movq %rdi, %rax
    leaq -1(%rsi, %rdx), %rsi
    leaq -1(%rdi, %rdx), %rdi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    ret
memset:
    movq %rdi, %r8
    movzbl %sil, %esi
    movabsq $0x0101010101010101, %rax
    imulq %rsi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret
memcmp:
bcmp:
    xorl %eax, %eax
    movq %rdx, %rcx
    cmpq %rcx, %rcx                 # equal, where there is nothing to compare
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %ecx
    movzbl -1(%rsi), %eax
    subl %ecx, %eax
1:  ret

# The standard library's crates are built to unwind; nothing here does.
.globl rust_eh_personality, _Unwind_Resume
rust_eh_personality:
_Unwind_Resume:
    ud2
