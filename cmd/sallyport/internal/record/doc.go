// Package record reads decision records from files and logs, and writes one as a line for people. It is shared by the commands that
// show records.
package record
