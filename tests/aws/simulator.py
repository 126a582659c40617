"""A simulated AWS on this machine: the server of moto, with the calls that it lacks.

`python simulator.py PORT` serves until it is stopped. A task or a release fails if the name of its image says so:
`failing-migration` and `failing-release`.
"""

import secrets
import sys
from inspect import signature
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.responses import EmptyResult
from moto.ecs.models import Container, EC2ContainerServiceBackend, Service, Task
from moto.elasticache.models import ElastiCacheBackend
from moto.elasticache.responses import ElastiCacheResponse
from moto.moto_api import state_manager
from moto.rds.models import RDSBackend
from moto.server import main


def autoscaling_targets_have_tags() -> None:
    """The provider reads the tags of a scalable target after each change. Moto does not know the calls."""
    ApplicationAutoScalingResponse.list_tags_for_resource = lambda _: '{"Tags": {}}'
    ApplicationAutoScalingResponse.tag_resource = lambda _: "{}"
    ApplicationAutoScalingResponse.untag_resource = lambda _: "{}"


def replication_groups_have_nodes() -> None:
    """Moto makes a replication group without the clusters that it names, and does not remove one."""
    create, parameters = ElastiCacheBackend.create_replication_group, signature(ElastiCacheBackend.create_cache_cluster)

    def create_with_nodes(backend: Any, **given: Any) -> Any:
        group = create(backend, **given)
        wanted = dict.fromkeys(name for name in parameters.parameters if name != "self")
        wanted |= {name: given[name] for name in wanted.keys() & given.keys()}
        wanted |= {"num_cache_nodes": 1, "auto_minor_version_upgrade": True, "log_delivery_configurations": []}
        wanted |= {"replication_group_id": group.replication_group_id}
        for name in group.member_clusters:
            backend.create_cache_cluster(**wanted | {"cache_cluster_id": name})
        return group

    def delete(backend: Any, replication_group_id: str, **_: Any) -> Any:
        group = backend.replication_groups.pop(replication_group_id)
        for name in group.member_clusters:
            backend.cache_clusters.pop(name, None)
        group.status = "deleting"
        return group

    def delete_subnet_group(response: Any) -> Any:
        response.elasticache_backend.cache_subnet_groups.pop(response._get_param("CacheSubnetGroupName"), None)
        return EmptyResult()

    ElastiCacheBackend.create_replication_group = create_with_nodes
    ElastiCacheBackend.delete_replication_group = delete
    ElastiCacheResponse.delete_cache_subnet_group = delete_subnet_group


def tasks_have_all_containers() -> None:
    """Moto shows the first container of a task only, and each succeeds. It requires limits."""
    begin = Task.__init__
    EC2ContainerServiceBackend._calculate_task_resource_requirements = lambda *_: {}

    def with_all_containers(task: Any, cluster: Any, task_definition: Any, *rest: Any, **given: Any) -> None:
        begin(task, cluster, task_definition, *rest, **given)
        definitions = task_definition.container_definitions
        task.containers = []
        for definition in definitions:
            task_definition.container_definitions = [definition]
            task.containers.append(Container(task_definition))
            failed = definition["name"] == "migrate" and "failing-migration" in definition["image"]
            task.containers[-1].exitCode = int(failed)
        task_definition.container_definitions = definitions

    Task.__init__ = with_all_containers
    state_manager.set_transition("ecs::task", {"progression": "immediate"})


def services_are_deployed() -> None:
    """Moto changes the task definition of a service without a deployment. ECS goes back from one that fails."""
    change = EC2ContainerServiceBackend.update_service

    def update(backend: Any, service_properties: dict[str, Any]) -> Service:
        wanted = service_properties.get("task_definition")
        before = backend._get_service(service_properties["cluster"], service_properties["service"]).task_definition
        service = change(backend, service_properties)
        if wanted:
            definition = backend.describe_task_definition(wanted)
            failed = any("failing-release" in each["image"] for each in definition.container_definitions)
            old = service.deployments[0]
            new = {**old, "taskDefinition": definition.arn, "rolloutState": "FAILED" if failed else "COMPLETED"}
            service.deployments = [{**old, "rolloutState": "IN_PROGRESS"}, new] if failed else [new]
            service.task_definition = before if failed else definition.arn
        return service

    EC2ContainerServiceBackend.update_service = update


def restored_servers_are_independent() -> None:
    """Moto makes a server that is restored to a point in time a replica of its source, with the same resource id."""
    restore = RDSBackend.restore_db_instance_to_point_in_time

    def restore_a_copy(backend: Any, source: str, target: str, overrides: dict[str, Any]) -> Any:
        own = {name: value for name, value in overrides.items() if "source" not in name.lower()}
        restored = restore(backend, source, target, own)
        restored.dbi_resource_id = f"db-{secrets.token_hex(13).upper()}"
        return restored

    RDSBackend.restore_db_instance_to_point_in_time = restore_a_copy


if __name__ == "__main__":
    autoscaling_targets_have_tags()
    replication_groups_have_nodes()
    tasks_have_all_containers()
    services_are_deployed()
    restored_servers_are_independent()
    main(["--host", "127.0.0.1", "--port", sys.argv[1]])
