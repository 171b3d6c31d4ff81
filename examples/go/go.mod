module github.com/feedsvc/feedsvc/examples/go

go 1.26.0

require (
	github.com/feedsvc/feedsvc/clients/go v0.0.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b
	google.golang.org/grpc v1.85.0
)

// `make contract-check` generates the stubs there.
replace github.com/feedsvc/feedsvc/clients/go => ../../build/contract/go
