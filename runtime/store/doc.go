// Package store keeps what must outlive the control process.
package store
