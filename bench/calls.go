// calls: what single system calls cost a Go program.  Prints "NAME NANOSECONDS" a line, as ops.c
// does, whose names these are.  Usage: calls [PATTERN ...].
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"syscall"
	"time"
)

const (
	rounds  = 7
	roundNs = 20e6
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func measure(once func()) float64 {
	once()
	start := time.Now()
	n := 0
	for time.Since(start) < roundNs {
		once()
		n++
	}
	took := make([]float64, rounds)
	for r := range took {
		start = time.Now()
		for i := 0; i < n; i++ {
			once()
		}
		took[r] = float64(time.Since(start).Nanoseconds()) / float64(n)
	}
	sort.Float64s(took)
	return took[rounds/2]
}

func main() {
	file, err := os.CreateTemp("", "calls")
	must(err)
	defer os.Remove(file.Name())
	fd := int(file.Fd())
	block := make([]byte, 4096)
	_, err = file.Write(block)
	must(err)
	var pipe [2]int
	must(syscall.Pipe(pipe[:]))
	var stat syscall.Stat_t

	ops := []struct {
		name string
		once func()
	}{
		{"getppid", func() { syscall.Getppid() }},
		{"lseek", func() { syscall.Seek(fd, 0, 0) }},
		{"fstat", func() { syscall.Fstat(fd, &stat) }},
		{"stat", func() { syscall.Stat("/usr/bin", &stat) }},
		{"pread-4K", func() { syscall.Pread(fd, block, 0) }},
		{"pwrite-4K", func() { syscall.Pwrite(fd, block, 0) }},
		{"pipe-self", func() {
			syscall.Write(pipe[1], block[:1])
			syscall.Read(pipe[0], block[:1])
		}},
		{"open+close", func() {
			f, _ := syscall.Open(file.Name(), syscall.O_RDONLY, 0)
			syscall.Close(f)
		}},
	}
	for _, op := range ops {
		wanted := len(os.Args) == 1
		for _, word := range os.Args[1:] {
			wanted = wanted || strings.Contains(op.name, word)
		}
		if wanted {
			fmt.Printf("%s %.1f\n", op.name, measure(op.once))
		}
	}
}
