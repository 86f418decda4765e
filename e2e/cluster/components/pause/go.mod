module sallyport.dev/sallyport/e2e/cluster/components/pause

go 1.26.0
