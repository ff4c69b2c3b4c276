//! The machine as the program finds it: start, text, memory, faults. One processor, no interrupts.

use alloc::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::ptr::null_mut;

global_asm!(include_str!("boot.s"), options(att_syntax));

/// Where the heap ends: below it are 511 MiB of the machine's 512, the stack is above.
const HEAP_END: usize = 0x1f00_0000;

/// Bochs' port for text.
struct Port;

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out(0xe9, byte));
        Ok(())
    }
}

fn out(port: u16, byte: u8) {
    // SAFETY: touches no memory; the ports are Bochs' own.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nomem, nostack, preserves_flags)) }
}

/// Called by `boot.s` in long mode, with every vector register enabled.
#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    let _ = super::compare(&mut Port);
    off()
}

/// Ends the emulation: the word Bochs waits for.
fn off() -> ! {
    b"Shutdown".iter().for_each(|&byte| out(0x8900, byte));
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let _ = writeln!(Port, "verdict: {info}");
    off()
}

/// Blocks of powers of two: freed ones in a list for each size, new ones from the rest of the memory.
struct Heap(UnsafeCell<Free>);

struct Free {
    next: usize,
    lists: [*mut u8; usize::BITS as usize],
}

// SAFETY: there is one processor and no interrupt, so nobody else is in there.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Free { next: 0, lists: [null_mut(); usize::BITS as usize] }));

fn block(layout: Layout) -> usize {
    layout.size().max(layout.align()).max(16).next_power_of_two()
}

// SAFETY: a block is as large and as aligned as its size class, which is at least the layout's, and is in one place at a
// time: handed out or in a list.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe extern "C" {
            static end: u8;
        }
        let size = block(layout);
        // SAFETY: see `Sync`; a block in a list begins with the next one's address; `end` is bare.ld's, only its address is
        // used.
        unsafe {
            let free = &mut *self.0.get();
            let list = &mut free.lists[size.trailing_zeros() as usize];
            if !list.is_null() {
                return core::mem::replace(list, list.cast::<*mut u8>().read());
            }
            let begin = free.next.max(&raw const end as usize).next_multiple_of(size);
            if begin + size > HEAP_END {
                return null_mut();
            }
            free.next = begin + size;
            begin as *mut u8
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: see `Sync`; the block is the caller's to give back and holds a pointer.
        unsafe {
            let list = &mut (*self.0.get()).lists[block(layout).trailing_zeros() as usize];
            memory.cast::<*mut u8>().write(*list);
            *list = memory;
        }
    }
}
