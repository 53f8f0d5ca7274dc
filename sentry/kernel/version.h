/*
 * The kernel that guests see.  A long-term release of Linux whose interface we follow: programs
 * branch on the number.
 */
#pragma once

#define KERNEL_RELEASE "6.12.0-runsc"
#define KERNEL_VERSION "#1 SMP PREEMPT_DYNAMIC runsc"
