variable "redis_class" {
  description = "The size of a node of the cache."
  type        = string
  default     = "cache.t4g.micro"
}

variable "redis_nodes" {
  description = "The number of nodes. With two, one takes over when the other fails. The service also works without any."
  type        = number
  default     = 1
}

resource "aws_security_group" "redis" {
  name        = "${local.name}-redis"
  description = "The cache of ${local.name}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "redis_from_service" {
  security_group_id            = aws_security_group.redis.id
  description                  = "The service"
  referenced_security_group_id = aws_security_group.service.id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_vpc_security_group_egress_rule" "service_to_redis" {
  security_group_id            = aws_security_group.service.id
  description                  = "The cache"
  referenced_security_group_id = aws_security_group.redis.id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}

resource "aws_elasticache_subnet_group" "this" {
  name       = local.name
  subnet_ids = aws_subnet.private[*].id
}

# Its data may be lost, so it has no backups. Every key expires, so the default policy, volatile-lru, can evict each of them.
resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV_AWS_31:Only the tasks of the service reach it; the state would contain an auth token
  #checkov:skip=CKV_AWS_191:AWS encrypts with its own key
  #checkov:skip=CKV2_AWS_50:var.redis_nodes is yours; the service also works without the cache
  replication_group_id       = local.short_name
  description                = "The cache of ${local.name}"
  engine                     = "valkey"
  engine_version             = "8.0"
  node_type                  = var.redis_class
  num_cache_clusters         = var.redis_nodes
  automatic_failover_enabled = var.redis_nodes > 1
  multi_az_enabled           = var.redis_nodes > 1
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.redis.id]
  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  snapshot_retention_limit   = 0
}

locals {
  redis_url = "rediss://${aws_elasticache_replication_group.this.primary_endpoint_address}:6379/0"
}
