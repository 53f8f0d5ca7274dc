/* The two images that run in guest processes, as data. */
	.section .rodata
	.globl	st_stub_image, st_stub_image_end, st_zygote_image, st_zygote_image_end
	.balign	16
st_stub_image:
	.incbin	"systrap-stub.bin"
st_stub_image_end:
	.balign	16
st_zygote_image:
	.incbin	"systrap-zygote.elf"
st_zygote_image_end:
	.section .note.GNU-stack, "", @progbits
