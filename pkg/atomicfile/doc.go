// Package atomicfile replaces files as a whole: whoever reads one, also after a crash, sees what it held before or what it holds now.
//
//	err := atomicfile.Write(path, 0o600, content)
//
// It is for files of one writer that fit in memory. It does not lock, and of two writers the later one wins.
package atomicfile
